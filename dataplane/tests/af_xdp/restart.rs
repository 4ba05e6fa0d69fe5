//! Starting again, after an end in order and after kill -9: nothing is left behind that would be in the way.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use ringway_dataplane::af_xdp::program::{SteeringEntry, XdpMode};

use crate::veth::{Bed, Worker, inside, until};

const HOLD_IN: &str = "RINGWAY_TEST_HOLD_IN";

/// Kills the child with SIGKILL when the test ends, however it ends.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: what [`a_start_after_kill_9_finds_nothing_in_the_way`] runs in another process.
#[test]
fn holder() {
    let Some(namespace) = std::env::var(HOLD_IN).ok() else { return };
    inside(&namespace, || {
        let _worker = Worker::start_here("l0", XdpMode::Native, &[SteeringEntry::Vip("10.99.0.1".parse().unwrap())]);
        println!("\nholding");
        loop {
            std::thread::park();
        }
    })
}

#[test]
fn a_start_after_kill_9_finds_nothing_in_the_way() {
    let Some(bed) = Bed::new(1, 2) else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "restart::holder", "--nocapture"]).env(HOLD_IN, bed.gateway_name());
    let mut holder = Holder(command.stdout(Stdio::piped()).spawn().unwrap());
    let output = BufReader::new(holder.0.stdout.take().unwrap());
    let is_holding = output.lines().any(|line| line.unwrap() == "holding");
    assert!(is_holding, "the other process did not start");
    assert!(bed.gateway_ip("link show l0").contains("xdp"));
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    until("the kernel has detached the program", || !bed.gateway_ip("link show l0").contains("xdp"));
    let worker = Worker::start(&bed, "l0", XdpMode::Native, &[]);
    assert_eq!(worker.ports.len(), 2);
}

#[test]
fn an_end_in_order_leaves_nothing_and_a_second_program_is_refused() {
    let Some(bed) = Bed::new(1, 1) else { return };
    for how in [XdpMode::Native, XdpMode::Generic] {
        let worker = Worker::start(&bed, "l0", how, &[]);
        assert!(bed.gateway_ip("link show l0").contains("xdp"));
        bed.gateway(|| {
            let device = ringway_dataplane::af_xdp::Device::by_name("l0").unwrap();
            let mut other = ringway_dataplane::af_xdp::program::SteeringProgram::load().unwrap();
            for how in [XdpMode::Auto, how] {
                let error = other.attach("l0", device.index, how).unwrap_err().to_string();
                assert!(error.starts_with("another XDP program is attached to l0, or to a bond"), "{error}");
            }
        });
        drop(worker);
        until("the program is gone", || !bed.gateway_ip("link show l0").contains("xdp"));
    }
}
