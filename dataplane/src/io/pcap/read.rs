//! Reads captures, packet by packet.

use std::io::{self, Read};
use std::time::Duration;

use super::{
    BYTE_ORDER, CaptureError, Captured, ENHANCED_PACKET, ETHERNET, INTERFACE_DESCRIPTION, MAX_BLOCK, OBSOLETE_PACKET,
    PCAP_MICROS, PCAP_NANOS, Resolution, SECTION_HEADER, SIMPLE_PACKET,
};

/// Reads a pcap or pcapng file of either byte order.
pub struct CaptureReader<R> {
    input: Input<R>,
    big_endian: bool,
    layout: Layout,
    packets: u64,
}

/// The bytes, and where in them we are.
struct Input<R> {
    from: R,
    offset: u64,
}

enum Layout {
    Pcap { resolution: Resolution },
    PcapNg { section: Vec<Interface>, earlier: usize, names: Vec<Option<String>>, last: Duration },
}

/// What an interface description block says.
struct Interface {
    ticks_per_second: u64,
    offset: i64,
    snap_length: u32,
    ethernet: Result<(), u16>,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file's header.
    pub fn new(from: R) -> Result<Self, CaptureError> {
        let mut input = Input { from, offset: 0 };
        let mut magic = [0; 4];
        let got = input.read_up_to(&mut magic)?;
        let unknown = || match got {
            0 => CaptureError::Unknown("nothing, the file is empty".into()),
            _ => CaptureError::Unknown(magic[..got].iter().map(|byte| format!("{byte:02x}")).collect()),
        };
        if got < magic.len() {
            return Err(unknown());
        }
        let (little, big) = (u32::from_le_bytes(magic), u32::from_be_bytes(magic));
        let is = |number| little == number || big == number;
        let mut reader = CaptureReader {
            input,
            big_endian: false,
            layout: Layout::PcapNg { section: Vec::new(), earlier: 0, names: Vec::new(), last: Duration::ZERO },
            packets: 0,
        };
        if little == SECTION_HEADER {
            reader.section_header()?;
        } else if is(PCAP_MICROS) || is(PCAP_NANOS) {
            reader.big_endian = big == PCAP_MICROS || big == PCAP_NANOS;
            reader.pcap_header(if is(PCAP_MICROS) { Resolution::Micros } else { Resolution::Nanos })?;
        } else {
            return Err(unknown());
        }
        Ok(reader)
    }

    /// How many packets were read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// How finely timestamps are written down, as far as is known: of pcapng, the finest of the interfaces seen so far.
    pub fn resolution(&self) -> Resolution {
        match &self.layout {
            Layout::Pcap { resolution } => *resolution,
            Layout::PcapNg { section, .. } if section.iter().all(|i| i.ticks_per_second <= 1_000_000) => {
                Resolution::Micros
            }
            Layout::PcapNg { .. } => Resolution::Nanos,
        }
    }

    /// The name of an interface, if the capture knows it.
    pub fn interface_name(&self, interface: usize) -> Option<&str> {
        match &self.layout {
            Layout::Pcap { .. } => None,
            Layout::PcapNg { names, .. } => names.get(interface)?.as_deref(),
        }
    }

    /// The next packet; `None` at the end.
    pub fn next_packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        let packet = match self.layout {
            Layout::Pcap { resolution } => self.pcap_packet(resolution)?,
            Layout::PcapNg { .. } => self.pcapng_packet()?,
        };
        self.packets += u64::from(packet.is_some());
        Ok(packet)
    }

    fn pcap_header(&mut self, resolution: Resolution) -> Result<(), CaptureError> {
        let header: [u8; 20] = self.exactly()?;
        // The upper bits say how long a frame check sequence is; the lower 16 are the link type.
        let link_type = self.u32(&header[16..]) as u16;
        if link_type != ETHERNET {
            return Err(CaptureError::LinkType(link_type));
        }
        self.layout = Layout::Pcap { resolution };
        Ok(())
    }

    fn pcap_packet(&mut self, resolution: Resolution) -> Result<Option<Captured>, CaptureError> {
        let start = self.input.offset;
        let mut header = [0; 16];
        match self.input.read_up_to(&mut header)? {
            0 => return Ok(None),
            16 => {}
            _ => return Err(self.truncated()),
        }
        let fields = [0, 4, 8, 12].map(|at| self.u32(&header[at..]));
        let [seconds, fraction, length, original_length] = fields;
        if length > MAX_BLOCK {
            return Err(self.corrupt(start, format!("a packet of {length} bytes")));
        }
        let nanos = match resolution {
            Resolution::Micros => u64::from(fraction) * 1_000,
            Resolution::Nanos => u64::from(fraction),
        };
        // A fraction of more than a second is odd, but says when.
        let timestamp = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanos);
        let data = self.bytes(length)?;
        Ok(Some(Captured { timestamp, interface: 0, data, original_length }))
    }

    fn pcapng_packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        loop {
            let start = self.input.offset;
            let mut header = [0; 4];
            match self.input.read_up_to(&mut header)? {
                0 => return Ok(None),
                4 => {}
                _ => return Err(self.truncated()),
            }
            let kind = self.u32(&header);
            if kind == SECTION_HEADER {
                self.section_header()?;
                continue;
            }
            let body = self.block(start)?;
            match kind {
                INTERFACE_DESCRIPTION => self.interface_description(start, &body)?,
                ENHANCED_PACKET | OBSOLETE_PACKET => return self.packet_block(start, &body, kind).map(Some),
                SIMPLE_PACKET => return self.simple_packet(start, &body).map(Some),
                _ => {}
            }
        }
    }

    /// The rest of a section header, whose type was read. Byte order and interfaces begin anew.
    fn section_header(&mut self) -> Result<(), CaptureError> {
        let start = self.input.offset - 4;
        let header: [u8; 8] = self.exactly()?;
        self.big_endian = match u32::from_le_bytes([header[4], header[5], header[6], header[7]]) {
            BYTE_ORDER => false,
            order if order == BYTE_ORDER.swap_bytes() => true,
            _ => return Err(self.corrupt(start, "a section header without a byte-order mark")),
        };
        let length = self.u32(&header);
        // Type, twice the length, the mark, the version and the section's length.
        if length < 28 || !length.is_multiple_of(4) || length > MAX_BLOCK {
            return Err(self.corrupt(start, format!("a section header of {length} bytes")));
        }
        self.bytes(length - 12)?;
        if let Layout::PcapNg { section, earlier, names, .. } = &mut self.layout {
            section.clear();
            *earlier = names.len();
        }
        Ok(())
    }

    /// The body of a block whose type was read.
    fn block(&mut self, start: u64) -> Result<Vec<u8>, CaptureError> {
        let length: [u8; 4] = self.exactly()?;
        let length = self.u32(&length);
        if length < 12 || !length.is_multiple_of(4) || length > MAX_BLOCK {
            return Err(self.corrupt(start, format!("a block of {length} bytes")));
        }
        let body = self.bytes(length - 12)?;
        let again: [u8; 4] = self.exactly()?;
        let again = self.u32(&again);
        if again != length {
            return Err(self.corrupt(start, format!("a block of {length} bytes that ends as one of {again}")));
        }
        Ok(body)
    }

    fn interface_description(&mut self, start: u64, body: &[u8]) -> Result<(), CaptureError> {
        if body.len() < 8 {
            return Err(self.corrupt(start, "an interface description that is too short"));
        }
        let link_type = self.u16(body);
        let snap_length = self.u32(&body[4..]);
        let mut name = None;
        let (mut ticks_per_second, mut offset) = (1_000_000, 0);
        let mut options = &body[8..];
        loop {
            let [code, value, rest] = self.option(options);
            match (self.u16(code), value) {
                (0, _) => break,
                (2, text) => {
                    let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                    name = Some(text).filter(|text| !text.is_empty());
                }
                (9, [resolution, ..]) => {
                    let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
                    let ticks = base.checked_pow(u32::from(resolution & 0x7f));
                    let what = "an interface whose timestamps are finer than 64 bits count";
                    ticks_per_second = ticks.ok_or_else(|| self.corrupt(start, what))?;
                }
                (14, value) if value.len() == 8 => {
                    let words = [self.u32(value), self.u32(&value[4..])].map(u64::from);
                    let [first, second] = words;
                    offset = if self.big_endian { first << 32 | second } else { second << 32 | first } as i64;
                }
                _ => {}
            }
            options = rest;
        }
        if let Layout::PcapNg { section, names, .. } = &mut self.layout {
            let ethernet = if link_type == ETHERNET { Ok(()) } else { Err(link_type) };
            section.push(Interface { ticks_per_second, offset, snap_length, ethernet });
            names.push(name);
        }
        Ok(())
    }

    /// The first option: its code, its value and what follows; three empty slices when there is none.
    fn option<'b>(&self, options: &'b [u8]) -> [&'b [u8]; 3] {
        let split = || {
            let (code, rest) = options.split_at_checked(2)?;
            let (length, rest) = rest.split_at_checked(2)?;
            let length = usize::from(self.u16(length));
            let (value, rest) = rest.split_at_checked(length)?;
            Some([code, value, rest.get((4 - length % 4) % 4..).unwrap_or_default()])
        };
        // An empty code reads as 0, which ends the options.
        split().unwrap_or_default()
    }

    fn packet_block(&mut self, start: u64, body: &[u8], kind: u32) -> Result<Captured, CaptureError> {
        if body.len() < 20 {
            return Err(self.corrupt(start, "a packet block that is too short"));
        }
        let [_, high, low, length, original_length] = [0, 4, 8, 12, 16].map(|at| self.u32(&body[at..]));
        let interface = if kind == OBSOLETE_PACKET { u32::from(self.u16(body)) } else { self.u32(body) } as usize;
        let Some(data) = body[20..].get(..length as usize) else {
            return Err(self.corrupt(start, format!("a packet of {length} bytes in a block of {}", body.len() + 12)));
        };
        let (number, timestamp) = self.arrival(start, interface, u64::from(high) << 32 | u64::from(low))?;
        Ok(Captured { timestamp, interface: number, data: data.to_vec(), original_length })
    }

    /// Simple packets have no timestamp (the last one counts) and arrive on the section's first interface.
    fn simple_packet(&mut self, start: u64, body: &[u8]) -> Result<Captured, CaptureError> {
        if body.len() < 4 {
            return Err(self.corrupt(start, "a packet block that is too short"));
        }
        let original_length = self.u32(body);
        let (section, number, timestamp) = match &self.layout {
            Layout::PcapNg { section, earlier, last, .. } => (section, *earlier, *last),
            Layout::Pcap { .. } => return Err(self.corrupt(start, "a pcapng block in a pcap file")),
        };
        let Some(interface) = section.first() else {
            return Err(self.corrupt(start, "a packet before any interface description"));
        };
        interface.ethernet.map_err(CaptureError::LinkType)?;
        let cut = if interface.snap_length == 0 { u32::MAX } else { interface.snap_length };
        let Some(data) = body[4..].get(..original_length.min(cut) as usize) else {
            return Err(
                self.corrupt(start, format!("a packet of {original_length} bytes in a block of {}", body.len() + 12))
            );
        };
        Ok(Captured { timestamp, interface: number, data: data.to_vec(), original_length })
    }

    /// The number and the moment of an arrival.
    fn arrival(&mut self, start: u64, interface: usize, ticks: u64) -> Result<(usize, Duration), CaptureError> {
        let unknown = self.corrupt(start, format!("a packet of interface {interface}, which nothing describes"));
        let Layout::PcapNg { section, earlier, last, .. } = &mut self.layout else { return Err(unknown) };
        let Some(described) = section.get(interface) else { return Err(unknown) };
        described.ethernet.map_err(CaptureError::LinkType)?;
        let (seconds, rest) = (ticks / described.ticks_per_second, ticks % described.ticks_per_second);
        let nanos = u128::from(rest) * 1_000_000_000 / u128::from(described.ticks_per_second);
        let seconds = seconds.saturating_add_signed(described.offset);
        *last = Duration::new(seconds, nanos as u32);
        Ok((*earlier + interface, *last))
    }

    fn u16(&self, bytes: &[u8]) -> u16 {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn exactly<const N: usize>(&mut self) -> Result<[u8; N], CaptureError> {
        let mut bytes = [0; N];
        if self.input.read_up_to(&mut bytes)? < N { Err(self.truncated()) } else { Ok(bytes) }
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, CaptureError> {
        let mut bytes = vec![0; length as usize];
        if self.input.read_up_to(&mut bytes)? < bytes.len() { Err(self.truncated()) } else { Ok(bytes) }
    }

    fn truncated(&self) -> CaptureError {
        CaptureError::Truncated { offset: self.input.offset, packet: self.packets + 1 }
    }

    fn corrupt(&self, offset: u64, what: impl Into<String>) -> CaptureError {
        CaptureError::Corrupt { offset, packets: self.packets, what: what.into() }
    }
}

impl<R: Read> Input<R> {
    /// Fills `bytes` as far as the file goes.
    fn read_up_to(&mut self, bytes: &mut [u8]) -> Result<usize, CaptureError> {
        let mut got = 0;
        while got < bytes.len() {
            match self.from.read(&mut bytes[got..]) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::Io { offset: self.offset + got as u64, error }),
            }
        }
        self.offset += got as u64;
        Ok(got)
    }
}
