//! Load by BPF_PROG_RUN with live frames.
//!
//! The program (`bpf/offer.bpf.c`, its object committed beside it) is told what to send by one map value, and counts
//! there. It also keeps the time: a run that comes too early for the rate, or too late for the load, sends nothing.

use std::time::{Duration, Instant};

use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, TestRun, Xdp};
use aya::{Ebpf, EbpfLoader, TestRunAttrs, TestRunOptions, TestRunResult};
use ringway_dataplane::af_xdp::Device;
use ringway_dataplane::wire::checksum;

use super::{By, Load, Offered};
use crate::failure::{Failure, failed};
use crate::traffic::{LONGEST, Mix, Stamp, now};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/offer.bpf.o");

/// Frames that the kernel makes and sends at once, as a driver does.
const BATCH: u32 = 64;
/// An EtherType for experiments (IEEE 802).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// Runs of the first call, which tells how fast runs are.
const SAMPLE: u32 = 100_000;
/// How long a call may take: it cannot be ended early.
const CALL: Duration = Duration::from_secs(1);
/// How long probes may take until the interface has counted them.
const PROBE: Duration = Duration::from_millis(500);

/// What the program is told, and what it counted: `struct plan`.
type Plan = [u8; 240];

mod at {
    pub(super) const PACKETS: usize = 0;
    pub(super) const STAMPED: usize = 16;
    pub(super) const FIRST: usize = 24;
    pub(super) const LAST: usize = 32;
    pub(super) const END: usize = 40;
    pub(super) const INTERVAL: usize = 56;
    pub(super) const NUMBERS: usize = 64;
    pub(super) const SIZES: usize = 96;
    pub(super) const HEADER: usize = 160;
}

/// Offers a load.
pub(super) fn send(interface: &str, load: &Load) -> Result<Offered, Failure> {
    let device = Device::by_name(interface).map_err(failed("cannot send"))?;
    let mut frames = LiveFrames::new(device.index, &load.mix, load.rate)?;
    frames.probe(interface, &load.mix)?;
    let end = now() + load.duration.as_nanos() as u64;
    frames.plan(|plan| put(plan, at::END, &end.to_ne_bytes()))?;
    let (frame, mut runs) = (frames.frame.clone(), SAMPLE);
    loop {
        let began = Instant::now();
        frames.run(&frame, runs)?;
        let left = Duration::from_nanos(end.saturating_sub(now()));
        if left.is_zero() {
            break;
        }
        let each = began.elapsed().as_secs_f64() / f64::from(runs);
        // Slightly more than are needed: what comes after the end sends nothing.
        runs = (left.min(CALL).as_secs_f64() * 1.05 / each).clamp(f64::from(SAMPLE / 10), f64::from(u32::MAX)) as u32;
    }
    let plan = frames.read()?;
    let (packets, first, last) = (get(&plan, at::PACKETS), get(&plan, at::FIRST), get(&plan, at::LAST));
    let elapsed = if first == 0 || last <= first { load.duration } else { Duration::from_nanos(last - first) };
    Ok(Offered {
        by: By::LiveFrames,
        because: None,
        packets,
        stamped: get(&plan, at::STAMPED),
        elapsed,
        kick_errors: 0,
    })
}

/// The loaded program with its plan.
pub struct LiveFrames {
    ebpf: Ebpf,
    plans: Array<MapData, Plan>,
    /// What the kernel fills new frames with.
    frame: Vec<u8>,
    /// Bytes that the program writes into a frame.
    dirty: usize,
}

impl LiveFrames {
    /// Loads the program for a mix, to leave by the interface with index `out`. `rate`: frames a second; 0 for no limit.
    pub fn new(out: u32, mix: &Mix, rate: u64) -> Result<Self, Failure> {
        let cannot = "live frames: the kernel does not load the program";
        let mut ebpf = EbpfLoader::new().map_max_entries("opened", mix.flows).load(OBJECT).map_err(failed(cannot))?;
        let plans = ebpf.take_map("plans").ok_or_else(|| Failure("the object has no map plans".into()))?;
        let plans = Array::try_from(plans).map_err(failed(cannot))?;
        let program: &mut Xdp = program(&mut ebpf)?;
        program.load().map_err(failed(cannot))?;
        let longest = mix.sizes.iter().copied().max().unwrap_or(LONGEST);
        let mut frames = LiveFrames { ebpf, plans, frame: vec![0; longest], dirty: mix.kind.shortest_stamped() };
        frames.plan(|plan| *plan = planned(out, mix, rate))?;
        Ok(frames)
    }

    /// Finds out whether frames leave at all. The kernel does not say: it is told by the interface's own count, for which
    /// some frames are sent that are no IP and nobody's.
    fn probe(&mut self, interface: &str, mix: &Mix) -> Result<(), Failure> {
        let before = sent(interface)?;
        self.plan(|plan| put(plan, at::NUMBERS, &0_u32.to_ne_bytes()))?;
        let mut frame = [0; 60];
        put(&mut frame, 0, &mix.destination_mac.0);
        put(&mut frame, 6, &mix.source_mac.0);
        put(&mut frame, 12, &EXPERIMENTAL);
        self.run(&frame, BATCH)?;
        let began = Instant::now();
        // The kernel itself may send a frame or two meanwhile.
        while sent(interface)?.wrapping_sub(before) < u64::from(BATCH / 2) {
            if began.elapsed() > PROBE {
                return Err(Failure(format!(
                    "live frames do not leave by {interface}: it takes no redirected frames; a veth does once its other end \
                     has a native XDP program, or GRO (ethtool -K PEER gro on)"
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.plan(|plan| put(plan, at::NUMBERS, &mix.flows.to_ne_bytes()))
    }

    /// Makes one frame and gives it back instead of sending it: the verdict and the bytes.
    pub fn one(&mut self) -> Result<(u32, Vec<u8>), Failure> {
        self.plan(|plan| put(plan, at::END, &u64::MAX.to_ne_bytes()))?;
        let (mut frame, mut bytes) = (self.frame.clone(), vec![0; LONGEST]);
        // The kernel recycles frames, so headers and stamp are those of an earlier one.
        frame.iter_mut().take(self.dirty).for_each(|byte| *byte = 0xff);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut bytes);
        let result = run(&mut self.ebpf, options).map_err(failed("BPF_PROG_RUN"))?;
        bytes.truncate(result.data_size_out as usize);
        Ok((result.return_value, bytes))
    }

    fn run(&mut self, frame: &[u8], runs: u32) -> Result<(), Failure> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = runs;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        let done = run(&mut self.ebpf, options);
        done.map(|_| ()).map_err(failed("the kernel does not run live frames (Linux 5.18 or newer, as root)"))
    }

    fn read(&self) -> Result<Plan, Failure> {
        self.plans.get(&0, 0).map_err(failed("live frames: the plan"))
    }

    fn plan(&mut self, change: impl FnOnce(&mut Plan)) -> Result<(), Failure> {
        let mut plan = self.read()?;
        change(&mut plan);
        self.plans.set(0, plan, 0).map_err(failed("live frames: the plan"))
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Failure> {
    let program = ebpf.program_mut("offer").ok_or_else(|| Failure("the object has no program offer".into()))?;
    program.try_into().map_err(failed::<ProgramError>("live frames"))
}

fn run(ebpf: &mut Ebpf, options: TestRunOptions<'_>) -> Result<TestRunResult, Failure> {
    program(ebpf)?.test_run(options).map_err(|error| match error {
        // Its own text names the system call only.
        ProgramError::SyscallError(error) => Failure(error.io_error.to_string()),
        error => Failure(error.to_string()),
    })
}

/// The plan of a mix.
fn planned(out: u32, mix: &Mix, rate: u64) -> Plan {
    let mut plan = [0; 240];
    let mut header = [0; LONGEST];
    // Of any flow and size: what differs is left out of the sums, and written by the program.
    mix.write(0, mix.kind.shortest(), 0, Stamp::default(), &mut header);
    let (ip, l4) = (14, mix.kind.l4());
    let tuple = mix.tuple(0);
    let (source, ip_sum) = if mix.kind.is_v6() {
        (ip + 20, 0)
    } else {
        put(&mut header, ip + 2, &[0, 0]);
        put(&mut header, ip + 10, &[0, 0]);
        (ip + 12, sum(&header, ip..l4) - sum(&header, ip + 12..ip + 16))
    };
    let client = u32::from_be_bytes(word(&header, source));
    // Source port, length of UDP and checksum; the flags of TCP are 0.
    put(&mut header, l4, &[0, 0]);
    put(&mut header, l4 + if mix.kind.is_tcp() { 16 } else { 6 }, &[0, 0]);
    if !mix.kind.is_tcp() {
        put(&mut header, l4 + 4, &[0, 0]);
    }
    let protocol = mix.kind.protocol().number();
    let addresses = if mix.kind.is_v6() { ip + 8..ip + 40 } else { ip + 12..ip + 20 };
    let l4_sum = sum(&header, addresses) - sum(&header, source..source + 4)
        + sum(&header, l4..mix.kind.payload())
        + u32::from(protocol);
    debug_assert_eq!(
        checksum::fold(u64::from(l4_sum + sum(&header, source..source + 4))),
        checksum::fold(
            u64::from(checksum::pseudo_header(&tuple, protocol, 0)) + u64::from(sum(&header, l4..mix.kind.payload()))
        )
    );
    let interval = (1_000_000_000_u64 << 8).checked_div(rate).map_or(0, |interval| interval.max(1));
    put(&mut plan, at::INTERVAL, &interval.to_ne_bytes());
    let numbers = [
        mix.flows,
        mix.sizes.len() as u32,
        out,
        u32::from(mix.kind.is_v6()),
        u32::from(mix.kind.is_tcp()),
        client,
        ip_sum,
        l4_sum,
    ];
    for (place, number) in numbers.into_iter().enumerate() {
        put(&mut plan, at::NUMBERS + 4 * place, &number.to_ne_bytes());
    }
    for (place, size) in mix.sizes.iter().enumerate() {
        put(&mut plan, at::SIZES + 4 * place, &(*size as u32).to_ne_bytes());
    }
    put(&mut plan, at::HEADER, header.get(..mix.kind.payload()).unwrap_or_default());
    plan
}

/// The sum of the 16-bit words of a part of a header, not folded.
fn sum(bytes: &[u8], part: std::ops::Range<usize>) -> u32 {
    let words = bytes.get(part).unwrap_or_default().as_chunks::<2>().0;
    words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum()
}

fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn get(plan: &Plan, at: usize) -> u64 {
    plan.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// Frames that an interface of the calling thread's namespace has sent.
fn sent(interface: &str) -> Result<u64, Failure> {
    let path = "/proc/thread-self/net/dev";
    let text = std::fs::read_to_string(path).map_err(failed(path))?;
    sent_in(&text, interface).ok_or_else(|| Failure(format!("{path} does not name {interface}")))
}

fn sent_in(text: &str, interface: &str) -> Option<u64> {
    let counts = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    // Eight columns of what was received, then bytes and packets sent.
    counts.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interface_sent_is_read() {
        let text = "Inter-|   Receive                            |  Transmit\n face |bytes packets errs drop fifo frame compressed \
                    multicast|bytes packets errs drop fifo colls carrier compressed\n    lo:  1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  \
                    eth0: 10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\neth01:9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n";
        assert_eq!(sent_in(text, "eth0"), Some(40));
        assert_eq!(sent_in(text, "lo"), Some(4));
        assert_eq!(sent_in(text, "eth"), None);
    }
}
