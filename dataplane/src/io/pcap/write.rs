//! Writes captures.

use std::io::{self, Write};
use std::time::Duration;

use super::{
    BYTE_ORDER, ENHANCED_PACKET, ETHERNET, INTERFACE_DESCRIPTION, PCAP_MICROS, PCAP_NANOS, Resolution, SECTION_HEADER,
};

/// What tcpdump writes as the largest packet of a capture.
const SNAP_LENGTH: u32 = 262_144;

/// Which kind of file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pcap: packets and timestamps.
    Pcap(Resolution),
    /// pcapng: with the names of interfaces, and nanoseconds.
    PcapNg,
}

/// Writes a capture in little-endian byte order.
pub struct CaptureWriter<W> {
    to: W,
    format: Format,
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the file's header. Packets name interfaces by their place in `interfaces`.
    pub fn new<'i>(to: W, format: Format, interfaces: impl IntoIterator<Item = &'i str>) -> io::Result<Self> {
        let mut writer = CaptureWriter { to, format };
        match format {
            Format::Pcap(resolution) => writer.pcap_header(resolution)?,
            Format::PcapNg => {
                // Version 1.0, and a section length that is not said.
                let mut body = BYTE_ORDER.to_le_bytes().to_vec();
                body.extend([1, 0, 0, 0]);
                body.extend([0xff; 8]);
                writer.block(SECTION_HEADER, &body)?;
                for name in interfaces {
                    writer.interface(name)?;
                }
            }
        }
        Ok(writer)
    }

    /// Writes a packet that was whole.
    pub fn write(&mut self, interface: usize, timestamp: Duration, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u32).to_le_bytes();
        match self.format {
            Format::Pcap(resolution) => {
                let fraction = match resolution {
                    Resolution::Micros => timestamp.subsec_micros(),
                    Resolution::Nanos => timestamp.subsec_nanos(),
                };
                // Seconds have 32 bits in pcap, which last until 2106.
                self.to.write_all(&(timestamp.as_secs() as u32).to_le_bytes())?;
                self.to.write_all(&fraction.to_le_bytes())?;
                self.to.write_all(&length)?;
                self.to.write_all(&length)?;
                self.to.write_all(data)
            }
            Format::PcapNg => {
                let nanos = timestamp.as_nanos() as u64;
                let mut body = (interface as u32).to_le_bytes().to_vec();
                body.extend(((nanos >> 32) as u32).to_le_bytes());
                body.extend((nanos as u32).to_le_bytes());
                body.extend(length);
                body.extend(length);
                body.extend(data);
                self.block(ENHANCED_PACKET, &body)
            }
        }
    }

    /// Writes what is still in memory, and gives the file back.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }

    fn pcap_header(&mut self, resolution: Resolution) -> io::Result<()> {
        let magic = if resolution == Resolution::Micros { PCAP_MICROS } else { PCAP_NANOS };
        self.to.write_all(&magic.to_le_bytes())?;
        // Version 2.4; time zone and accuracy are not used.
        self.to.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        self.to.write_all(&SNAP_LENGTH.to_le_bytes())?;
        self.to.write_all(&u32::from(ETHERNET).to_le_bytes())
    }

    fn interface(&mut self, name: &str) -> io::Result<()> {
        let mut body = ETHERNET.to_le_bytes().to_vec();
        body.extend([0, 0]);
        body.extend(SNAP_LENGTH.to_le_bytes());
        // Options: name, nanoseconds, end.
        body.extend(2u16.to_le_bytes());
        body.extend((name.len() as u16).to_le_bytes());
        body.extend(name.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend([9, 0, 1, 0, 9, 0, 0, 0]);
        body.extend([0; 4]);
        self.block(INTERFACE_DESCRIPTION, &body)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let padded = body.len().next_multiple_of(4);
        let length = ((padded + 12) as u32).to_le_bytes();
        self.to.write_all(&kind.to_le_bytes())?;
        self.to.write_all(&length)?;
        self.to.write_all(body)?;
        self.to.write_all(&[0; 3][..padded - body.len()])?;
        self.to.write_all(&length)
    }
}
