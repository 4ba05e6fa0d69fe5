//! Ports of devices: opened and closed here, since a driver may reset its NIC for either (10 ms to 3 s). A worker goes on
//! with its other ports meanwhile; it only takes open ports in and hands them back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Device as KernelDevice, Socket, SocketError, SocketOptions};
use ringway_dataplane::io::port::{Closed, ProgressCell};
use ringway_dataplane::io::{Port, PortError, PortOptions};
use ringway_dataplane::worker::{AttachError, Question};

use super::{Interfaces, holders, lock};

/// How long an attempt waits for frames that closed ports still hold. Most drivers let go within 100 ms; one that takes longer
/// is waited for from attempt to attempt.
const SOON: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const STEP: Duration = Duration::from_millis(20);

/// A port that a worker serves. Whoever keeps the socket keeps it open.
pub(super) struct OpenPort {
    pub(super) worker: u16,
    pub(super) socket: Arc<Socket>,
    pub(super) progress: Arc<ProgressCell>,
}

/// Why there is no port on a queue, which is named once.
pub(super) fn refusal(queue: u32, error: &AttachError) -> String {
    match error {
        AttachError::Port(PortError::Socket(socket)) if socket.names_the_queue() => {
            if matches!(socket, SocketError::Busy { .. }) { held_by_another(socket) } else { socket.to_string() }
        }
        error => format!("queue {queue}: {error}"),
    }
}

/// That somebody else has a queue, with those who may be that.
pub(super) fn held_by_another(busy: &SocketError) -> String {
    holders::told().map_or_else(|| busy.to_string(), |holders| format!("{busy}; {holders}"))
}

impl Interfaces {
    /// Opens a port on a queue of a device, and has the worker at this place serve it.
    pub(super) fn open_port(
        &mut self,
        place: usize,
        device: &KernelDevice,
        queue: u32,
        socket: SocketOptions,
    ) -> Result<OpenPort, AttachError> {
        let (worker, opening) = self.with_room(place, || Question::lend(socket.rings))?;
        // A queue is busy as long as a port that came back late is open.
        self.gather();
        let port = match self.open_patiently(opening, &PortOptions { device, queue, socket }) {
            Ok(port) => port,
            Err((error, unused)) => {
                self.leftovers.add(worker, *unused);
                return Err(error.into());
            }
        };
        let progress = port.progress();
        let is_there = lock(&self.workers).iter().any(|handle| handle.id == worker);
        let Some(socket) = port.socket().cloned().filter(|_| is_there) else {
            // The worker has ended.
            self.close(vec![(worker, port)]);
            return Err(AttachError::Ended(worker));
        };
        self.leftovers.bound(&socket);
        self.ask(worker, Question::take(port))?;
        Ok(OpenPort { worker, socket, progress })
    }

    /// Whether the worker at this place has room for ports that hold so many frames together.
    pub(super) fn has_room(&mut self, place: usize, frames: u32) -> Result<(), AttachError> {
        self.with_room(place, || Question::room(frames)).map(drop)
    }

    /// Asks the worker at this place for frames, for a moment again and again while closed ports hold some of its own.
    fn with_room<T>(&mut self, place: usize, question: impl Fn() -> Question<T>) -> Result<(u16, T), AttachError> {
        let start = Instant::now();
        let worker = lock(&self.workers).get(place).map(|worker| worker.id);
        let worker = worker.ok_or(AttachError::Ended(place as u16))?;
        loop {
            match self.ask(worker, question()) {
                Err(AttachError::Port(error @ PortError::Frames { .. })) if self.leftovers.has(worker) => {
                    if start.elapsed() >= SOON {
                        return Err(error.for_a_moment().into());
                    }
                }
                answer => return answer.map(|answer| (worker, answer)),
            }
            std::thread::sleep(STEP);
            self.heart.beat();
            self.keep_up();
            self.reclaim();
        }
    }

    /// Closes the ports of a device. Nothing comes up by them any more; what they hold is free when the kernel lets go of it.
    pub(super) fn close_ports(&mut self, index: u32, name: &str) {
        let ports = self.take_ports(index, name);
        self.close_taken(ports);
    }

    /// Takes the ports of a device from workers, which no longer use them then.
    pub(super) fn take_ports(&mut self, index: u32, name: &str) -> Vec<(u16, Port)> {
        lock(&self.steering).remove_sockets(index);
        let mut ports: Vec<(u16, Port)> = Vec::new();
        for (worker, handed_back) in self.ask_all(|_| Some(Question::hand_back(index))) {
            match handed_back {
                Ok(its) => ports.extend(its.into_iter().map(|port| (worker, port))),
                Err(error) => tracing::warn!("letting go of {name}: {error}; it does when it is back"),
            }
        }
        tracing::debug!("{name}: workers use its ports no more");
        ports
    }

    /// Closes these ports, and has workers free what no driver uses of them.
    pub(super) fn close_taken(&mut self, ports: Vec<(u16, Port)>) {
        self.close(ports);
        self.gather();
        let unused = self.leftovers.take_unused();
        self.give_back(unused);
    }

    /// Closes what came back from workers that nobody waited for, and takes what is left of it.
    fn gather(&mut self) {
        let mut ports: Vec<(u16, Port)> = Vec::new();
        for worker in lock(&self.workers).iter_mut() {
            ports.extend(worker.take_returned().into_iter().map(|port| (worker.id, port)));
            worker.take_strays().into_iter().for_each(|stray| self.leftovers.add(worker.id, stray));
        }
        self.close(ports);
    }

    fn close(&mut self, ports: Vec<(u16, Port)>) {
        if ports.is_empty() {
            return;
        }
        ports.iter().for_each(|(_, port)| self.patience.note_closed(port.device, Instant::now()));
        let close = || ports.into_iter().map(|(worker, port)| (worker, port.close())).collect::<Vec<_>>();
        for (worker, closed) in self.aside(close) {
            self.leftovers.add(worker, closed);
        }
    }

    /// Tells workers what they could not be told before, and has them free what closed ports held and nobody uses any more.
    pub(super) fn reclaim(&mut self) {
        for worker in lock(&self.workers).iter_mut() {
            worker.catch_up();
        }
        self.gather();
        if self.leftovers.is_empty() {
            return;
        }
        // Whoever asks has the queue for a moment.
        let asked = self.leftovers.devices();
        let mut leftovers = std::mem::take(&mut self.leftovers);
        let (free, leftovers) = self.aside(move || (leftovers.take_free(), leftovers));
        self.leftovers = leftovers;
        let free_now = asked.difference(&self.leftovers.devices()).copied().collect::<Vec<_>>();
        free_now.into_iter().for_each(|index| self.patience.note_closed(index, Instant::now()));
        self.give_back(free);
    }

    fn give_back(&mut self, free: Vec<(u16, Closed)>) {
        if !free.is_empty() {
            self.room.note_given_back();
        }
        for (worker, closed) in free {
            if let Err(error) = self.ask(worker, Question::reclaim(closed)) {
                tracing::warn!("the frames of a port that is closed: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_once() {
        let interface = || "eth0".to_owned();
        let socket = |error: SocketError| AttachError::from(PortError::from(error));
        let busy = refusal(3, &socket(SocketError::Busy { interface: interface(), queue: 3 }));
        assert!(busy.starts_with("queue 3 of eth0 is held by another AF_XDP socket"), "{busy}");
        let missing = refusal(3, &socket(SocketError::NoQueue { interface: interface(), queue: 3, queues: 2 }));
        assert!(missing.starts_with("eth0 has 2 queues, so there is no queue 3"), "{missing}");
        for told in [refusal(3, &socket(SocketError::Unsupported)), refusal(3, &PortError::TooMany.into())] {
            assert!(told.starts_with("queue 3: "), "{told}");
        }
    }
}
