//! The devices that carry interfaces: attaching to them, letting them go, and what `status` says of them.

use std::os::fd::AsFd;
use std::time::Instant;

use ringway_dataplane::af_xdp::program::AttachedMode;
use ringway_dataplane::af_xdp::{CopyMode, Device as KernelDevice, RingSizes, SocketOptions};
use ringway_shared::Network;

use super::fit::{Fit, Terms, Wanted};
use super::tags::{blindness, is_virtual};
use super::watched::Watched;
use super::{Attached, Interfaces, fit, lock, ports, rings, tags};
use crate::config::{XdpMode, ZeroCopy};
use crate::report::interfaces::{InterfaceReport, LowerReport, PortReport, RingReport};
use crate::watch::thread::Devices;

/// A device that Ringway is attached to.
pub(super) struct Carrier {
    pub(super) device: KernelDevice,
    mode: &'static str,
    mode_reason: Option<String>,
    xdp: XdpMode,
    pub(super) watched: Watched,
    /// Why the tags of frames cannot be seen.
    pub(super) blind: Option<String>,
    /// That its rings are smaller than they should be.
    small: Option<String>,
}

impl Carrier {
    /// Whether its frames come by native XDP.
    pub(super) fn is_native(&self) -> bool {
        self.mode == "native"
    }

    /// One that is there, and no more.
    #[cfg(test)]
    pub(super) fn bare(device: KernelDevice) -> Self {
        let watched = Watched::new(&device, 1, Vec::new(), false);
        Carrier { device, mode: "generic", mode_reason: None, xdp: XdpMode::Auto, watched, blind: None, small: None }
    }

    /// How many queues its NIC has; none without hardware, which is let go of at once.
    fn nic(&self) -> Option<u32> {
        self.device.may_zero_copy().then_some(self.watched.ports.len() as u32)
    }
}

/// A device whose ports are opened anew while its program stays, so that nothing of ours reaches the kernel meanwhile.
pub(super) struct Kept {
    mode: &'static str,
    mode_reason: Option<String>,
    xdp: XdpMode,
    pub(super) since: Instant,
    /// How many queues its NIC has; none without hardware.
    nic: Option<u32>,
}

impl Interfaces {
    /// How many there are to let go of.
    pub(in crate::daemon) fn devices(&self) -> Devices {
        let nics = self.carriers.values().filter_map(Carrier::nic);
        let nics: Vec<u32> = nics.chain(self.kept.values().filter_map(|kept| kept.nic)).collect();
        let bare = self.carriers.values().filter(|carrier| carrier.nic().is_none());
        Devices {
            nics: nics.len() as u32,
            queues: nics.iter().sum(),
            bare_queues: bare.map(|carrier| carrier.watched.ports.len() as u32).sum(),
        }
    }

    /// Says what becomes of our packets on queues without a socket: the queues that somebody has just added, and all while ports
    /// are opened anew. The kernel would refuse their connections, so they are dropped, and come again. Before Ringway is
    /// attached to anything they are left to the kernel.
    pub(super) fn drop_meanwhile(&mut self) {
        let drop = !self.kept.is_empty() || !self.carriers.is_empty();
        if self.drops == drop {
            return;
        }
        match lock(&self.steering).drop_without_socket(drop) {
            Ok(()) => self.drops = drop,
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Closes the ports of a device, to open others. The program and what was set on the device stay.
    pub(super) fn release(&mut self, index: u32) {
        let Some(carrier) = self.carriers.remove(&index) else { return };
        let nic = carrier.nic();
        let Carrier { device, mode, mode_reason, xdp, .. } = carrier;
        self.kept.insert(index, Kept { mode, mode_reason, xdp, since: Instant::now(), nic });
        self.drop_meanwhile();
        self.close_ports(index, &device.name);
    }

    /// Takes the program off a device.
    pub(super) fn detach_program(&mut self, index: u32) {
        let attachment = lock(&self.steering).detach(index);
        if attachment.is_some() {
            self.aside(|| drop(attachment));
            tracing::debug!("the steering program is off device {index}");
        }
    }

    /// Takes the program off a device, and what was set on it for its sake.
    pub(super) fn forget(&mut self, index: u32) {
        self.kept.remove(&index);
        self.detach_program(index);
        self.steered.forget(index);
        let offloads = self.offloads.clone();
        self.aside(|| lock(&offloads).restore(index));
    }

    /// Lets go of all devices.
    pub(super) fn detach_devices(&mut self) {
        let all: Vec<u32> = self.carriers.keys().copied().collect();
        all.into_iter().for_each(|index| self.detach(index));
        let kept: Vec<u32> = self.kept.keys().copied().collect();
        kept.into_iter().for_each(|index| self.forget(index));
        self.drop_meanwhile();
    }

    /// Lets go of devices that no interface needs any more; whether there were any.
    pub(super) fn detach_unneeded(&mut self, network: &Network) -> bool {
        let before = self.carriers.len();
        let wanted = fit::wanted(&self.listed, network);
        let unneeded = self.carriers.keys().copied().filter(|index| !wanted.contains_key(index));
        for index in unneeded.collect::<Vec<_>>() {
            // What is needed may change while a driver lets go of another.
            if !self.is_needed(index, network) {
                self.detach(index);
            }
        }
        self.carriers.len() < before
    }

    /// Lets go of devices that do not exist any more, so that those that come in their place find packet memory.
    pub(super) fn detach_lost(&mut self) {
        let is_lost = |carrier: &Carrier| {
            KernelDevice::by_name(&carrier.device.name).map_or(true, |device| device.index != carrier.device.index)
        };
        // A device may have another name by now.
        let lost = self.carriers.iter().filter(|(_, carrier)| is_lost(carrier)).map(|(index, _)| *index);
        lost.collect::<Vec<_>>().into_iter().for_each(|index| self.detach(index));
    }

    pub(super) fn detach(&mut self, index: u32) {
        let Some(carrier) = self.carriers.remove(&index) else { return };
        // Without the program some drivers refuse to be kicked by workers that have the ports still.
        let ports = self.take_ports(index, &carrier.device.name);
        self.detach_program(index);
        self.close_taken(ports);
        self.forget(index);
        tracing::debug!("detached from {}", carrier.device);
    }

    /// `has_program`: whether there is an XDP program in the way of one on this device.
    pub(super) fn attach_device(
        &mut self,
        index: u32,
        wanted: &Wanted,
        has_program: impl Fn(u32) -> bool,
    ) -> Result<Carrier, String> {
        let device = KernelDevice::by_name(&wanted.name).map_err(|error| error.to_string())?;
        if device.index != index {
            return Err("it was replaced by another device of this name just now".to_owned());
        }
        let terms = Terms { placement: &self.placement, memory: self.memory, busy_poll: self.busy_poll };
        let fit = terms.look_at(&device, wanted, |index| !self.kept.contains_key(&index) && has_program(index));
        let fit = fit.map_err(|unfit| unfit.why)?;
        if !self.kept.contains_key(&index) {
            self.wait_for_queues(&device, &fit)?;
        }
        let Fit { number, queues, nic } = fit;
        let kept = self.kept_of(wanted);
        // Larger rings give way to these, and these to smaller ones.
        let usual = match self.rings(self.usual, &queues, &kept) {
            Ok(rings) => rings,
            Err(error) => return Err(self.no_room(wanted, &queues, &kept, error)),
        };
        // Before XDP is there: some drivers reset the NIC for it.
        let offloads = self.offloads.clone();
        let blind = if is_virtual(&device) { None } else { self.aside(|| lock(&offloads).switch_off(&device).err()) };
        if let Some(refusal) = tags::refusal(&device, blind.as_ref(), wanted.tagged) {
            return Err(refusal);
        }
        if self.kept.get(&index).is_some_and(|kept| kept.xdp != wanted.xdp) {
            self.forget(index);
        }
        let (mode, mode_reason) = match self.kept.get(&index) {
            Some(kept) => (kept.mode, kept.mode_reason.clone()),
            None => self.attach_program(&device, wanted.xdp)?,
        };
        let is_auto = wanted.zero_copy == ZeroCopy::Auto;
        let mut copies = self.watch.distrust(index).filter(|_| is_auto).cloned();
        let generic = mode == "generic";
        let may_zero_copy = !generic && wanted.zero_copy != ZeroCopy::Off && copies.is_none();
        let mut ideal = nic.rings(may_zero_copy, self.usual);
        let mut rings = if ideal == self.usual { Ok(usual) } else { self.rings(ideal, &queues, &kept) };
        if rings.as_ref().is_err_and(rings::is_out) && ideal.driver > 0 && is_auto {
            copies = Some(rings::cramped(ideal.driver));
            ideal = nic.rings(false, self.usual);
            rings = self.rings(ideal, &queues, &kept);
        }
        let rings = rings.map_err(|error| self.no_room(wanted, &queues, &kept, error))?;
        if wanted.named {
            let frames = queues.iter().map(|queues| queues.len() as u32 * rings.frames());
            self.room.share(&wanted.name, frames.collect());
        }
        let zero_copy = match copies {
            Some(_) => ZeroCopy::Off,
            None => wanted.zero_copy,
        };
        let small = rings::note(ideal, rings, number);
        if let Some(note) = small.as_ref().filter(|_| self.kept.contains_key(&index)) {
            tracing::warn!("{device}: {note}");
        }
        let socket = SocketOptions { rings, zero_copy, generic, busy_poll: self.busy_poll, announces: nic.announces };
        let mut ports = Vec::new();
        for (place, queues) in queues.into_iter().enumerate() {
            for queue in queues {
                self.heart.beat();
                let opened = self.open_port(place, &device, queue, socket);
                let opened = opened.map_err(|error| ports::refusal(queue, &error))?;
                let set = lock(&self.steering).set_socket(index, queue, opened.socket.as_fd());
                set.map_err(|error| error.to_string())?;
                let (copy, copy_reason) = match opened.socket.mode() {
                    CopyMode::ZeroCopy => ("zero-copy", None),
                    CopyMode::Copy { because } => ("copy", Some(copies.as_ref().unwrap_or(because).clone())),
                };
                let RingSizes { fill, receive, transmit, completion, driver } = rings;
                let report = PortReport {
                    device: device.name.clone(),
                    queue,
                    worker: opened.worker,
                    copy: copy.to_owned(),
                    copy_reason,
                    rings: Some(RingReport { fill, receive, transmit, completion, nic: driver }),
                    ..PortReport::default()
                };
                ports.push((report, opened.progress));
            }
        }
        ports.sort_by_key(|(port, _)| port.queue);
        let mut watched = Watched::new(&device, number, ports, wanted.zero_copy == ZeroCopy::On);
        watched.program = lock(&self.steering).program_on(index);
        Ok(Carrier { device, mode, mode_reason, xdp: wanted.xdp, watched, blind, small })
    }

    fn attach_program(
        &mut self,
        device: &KernelDevice,
        xdp: XdpMode,
    ) -> Result<(&'static str, Option<String>), String> {
        // Others change what is steered meanwhile.
        let attacher = lock(&self.steering).attacher();
        let attach = || attacher.attach(&device.name, device.index, xdp);
        let attached = if is_virtual(device) { attach() } else { self.aside(attach) };
        let (mode, attachment) = attached.map_err(|error| error.to_string())?;
        lock(&self.steering).keep(device.index, attachment);
        Ok(match mode {
            AttachedMode::Native => ("native", None),
            AttachedMode::Generic { because } => ("generic", Some(because)),
        })
    }

    /// What `status` says of an attached interface. It is attached in native mode when all its devices are.
    pub(super) fn report(&self, attached: &Attached) -> InterfaceReport {
        let mut report = attached.report.clone();
        report.vlan = attached.lowers.vlan;
        let unsteered = self.steered.problems(&attached.lowers);
        report.notes.extend(unsteered.map(|why| format!("its packets go to the kernel: {why}")));
        for lower in attached.lowers.devices.iter() {
            let carrier = self.carriers.get(&lower.index);
            report.lowers.push(LowerReport {
                name: lower.name.to_string(),
                index: lower.index,
                receives: lower.receives,
                sends: lower.sends,
                mode: carrier.map(|carrier| carrier.mode.to_owned()),
                mode_reason: carrier.and_then(|carrier| carrier.mode_reason.clone()),
                problem: self.refused.problem(lower.index).cloned(),
                counters: None,
            });
            let Some(carrier) = carrier else { continue };
            report.ports.extend(carrier.watched.reports());
            let large = carrier.watched.large.iter();
            let said = carrier.small.iter().chain(large).cloned().chain(carrier.blind.iter().map(|why| blindness(why)));
            let by = if *lower.name == *report.name { String::new() } else { format!("{}: ", lower.name) };
            report.notes.extend(said.map(|what| format!("{by}{what}")));
            if report.mode.is_none() || carrier.mode_reason.is_some() {
                report.mode = Some(carrier.mode.to_owned());
                report.mode_reason = report.mode_reason.or_else(|| carrier.mode_reason.clone());
            }
        }
        if report.mode.is_none() {
            report.problem = self.without_carrier(attached);
            report.next_try = self.refused.next_try(&attached.lowers);
        }
        report
    }

    /// Whether nothing carries an interface that was attached, and it was tried to change that.
    pub(super) fn is_lost(&self, attached: &Attached) -> bool {
        let mut devices = attached.lowers.devices.iter();
        !devices.any(|lower| self.carriers.contains_key(&lower.index))
            && self.refused.next_try(&attached.lowers).is_some()
    }

    /// Why an interface has no device that carries it, though it was attached; `None` where it has one.
    pub(super) fn without_carrier(&self, attached: &Attached) -> Option<String> {
        let devices = &attached.lowers.devices;
        if devices.iter().any(|lower| self.carriers.contains_key(&lower.index)) {
            return None;
        }
        let why = self.refused.why(&attached.device.name, &attached.lowers);
        if why.is_empty() && devices.iter().any(|lower| self.kept.contains_key(&lower.index)) {
            return Some("its queues are being opened anew".to_owned());
        }
        (!why.is_empty()).then_some(why)
    }
}

/// Says how an interface was attached.
pub(super) fn log_mode(report: &InterfaceReport) {
    let because = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let mode = report.mode.as_deref().unwrap_or_default();
    let others: Vec<&str> =
        report.lowers.iter().map(|lower| &*lower.name).filter(|name| *name != report.name).collect();
    let vlan = report.vlan.map_or_else(String::new, |vlan| format!(" in VLAN {vlan}"));
    let by = if others.is_empty() { String::new() } else { format!(" by {}{vlan}", others.join(", ")) };
    tracing::info!("attached to {}{by}: {mode} XDP{}", report.name, because(&report.mode_reason));
    for port in &report.ports {
        let PortReport { device, queue, worker, copy, copy_reason, .. } = port;
        tracing::info!("{device} queue {queue}: worker {worker}, {copy}{}", because(copy_reason));
    }
    if let Some(problem) = &report.tap_problem {
        tracing::warn!("{}: packets that are not ours but reach a worker are lost: {problem}", report.name);
    }
    for note in report.notes.iter().chain(&report.tap_notes) {
        tracing::warn!("{}: {note}", report.name);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ringway_shared::InterfaceId;

    use super::super::meanwhile::tests::interfaces;
    use super::super::refused::Signs;
    use super::*;

    #[test]
    fn an_interface_is_lost_when_nothing_carries_it_and_what_should_was_refused() {
        let Some((mut all, _latest)) = interfaces(&[1]) else { return };
        let told = |all: &Interfaces| {
            let attached = &all.attached[&InterfaceId(0)];
            (all.without_carrier(attached), all.is_lost(attached))
        };
        let wanted =
            Wanted { name: "m1".into(), xdp: XdpMode::Auto, zero_copy: ZeroCopy::Auto, tagged: false, named: true };
        all.refused.note(1, "busy".into(), Signs::of(1, &wanted), Instant::now());
        assert_eq!(told(&all), (None, false), "it is carried");
        all.refused.remove(1);
        all.drop_meanwhile();
        assert!(all.drops, "nor does it on a queue that somebody has just added");
        all.release(1);
        assert!(all.drops, "what is ours does not reach the kernel while queues are opened anew");
        assert_eq!(told(&all), (Some("its queues are being opened anew".to_owned()), false));
        all.kept.get_mut(&1).unwrap().nic = Some(4);
        assert_eq!(all.devices(), Devices { nics: 1, queues: 4, bare_queues: 0 });
        all.refused.note(1, "busy".into(), Signs::of(1, &wanted), Instant::now());
        assert_eq!(told(&all), (Some("m1: busy".to_owned()), true));
        all.forget(1);
        all.drop_meanwhile();
        assert!(!all.drops, "Ringway is attached to nothing");
        assert_eq!(all.devices(), Devices::default());
    }

    #[test]
    fn a_device_that_is_gone_or_whose_name_another_has_is_lost() {
        let Some((mut all, _latest)) = interfaces(&[]) else { return };
        let there = KernelDevice::by_name("lo").unwrap();
        for device in
            [there.clone(), KernelDevice { index: 77, ..there.clone() }, KernelDevice { name: "m5".into(), index: 5 }]
        {
            all.carriers.insert(device.index, Carrier::bare(device));
        }
        all.detach_lost();
        assert_eq!(all.carriers.keys().copied().collect::<Vec<_>>(), [there.index]);
    }
}
