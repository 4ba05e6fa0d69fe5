//! Sends bytes by an AF_XDP socket, as a worker does: `ringway-send-frame INTERFACE HEX COUNT`. The scenario `overlays` of
//! tests/scripts/machine shows with it what the kernel does with frames for devices that Ringway refuses.

use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::io::{Port, PortOptions};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, hex, count] = &*arguments else {
        eprintln!("usage: ringway-send-frame INTERFACE HEX COUNT");
        return ExitCode::from(2);
    };
    match send(interface, hex, count) {
        Ok(completed) => {
            println!("{interface}: the kernel took {completed} frames");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{interface}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(interface: &str, hex: &str, count: &str) -> Result<u32, Box<dyn std::error::Error>> {
    let count: u32 = count.parse()?;
    let bytes: Result<Vec<u8>, _> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or("?"), 16)).collect();
    let bytes = bytes?;
    let rings = RingSizes::DEFAULT;
    let mut umem = Umem::new(UmemLayout::of_frames(rings.frames() + count))?;
    let device = Device::by_name(interface)?;
    let socket = SocketOptions { rings, zero_copy: ZeroCopy::Off, generic: true, busy_poll: false, announces: None };
    let options = PortOptions { device: &device, queue: 0, socket };
    let mut port = Port::open_patiently(&options, &mut umem, &[])?;
    for _ in 0..count {
        let mut frame = umem.allocate().ok_or("no frame is free")?;
        if !umem.fill(&mut frame, &bytes) {
            return Err("too many bytes".into());
        }
        port.send(&mut umem, frame).map_err(|_| "the transmit ring is full")?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while port.in_transmit() > 0 && Instant::now() < deadline {
        port.flush(&mut umem);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(count - port.in_transmit())
}
