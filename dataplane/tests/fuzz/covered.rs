//! What of the packet path was executed, when it was compiled to count that (`tests/scripts/rustc-covered.sh`): the counters of
//! `-C instrument-coverage`, read out of this process's own memory as a file, which takes neither unsafe code nor a compiler
//! that is not stable.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The counters, one for each region of code.
pub(crate) struct Counters {
    memory: File,
    address: u64,
    bytes: Vec<u8>,
    before: Vec<u64>,
}

impl Counters {
    /// Those of this program, if it has any.
    pub(crate) fn open() -> Option<Self> {
        let program = std::fs::read("/proc/self/exe").ok()?;
        let (address, size) = section(&program, "__llvm_prf_cnts")?;
        let path = std::env::current_exe().ok()?;
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let first = maps.lines().find(|line| line.ends_with(path.to_str().unwrap_or("?")))?;
        let base = u64::from_str_radix(first.split('-').next()?, 16).ok()?;
        let memory = File::open("/proc/self/mem").ok()?;
        let count = size as usize / 8;
        Some(Counters { memory, address: base + address, bytes: vec![0; count * 8], before: vec![0; count] })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.before.len()
    }

    /// Which have moved since the last call, and by how much.
    pub(crate) fn moved(&mut self, mut tell: impl FnMut(usize, u64)) {
        self.memory.read_exact_at(&mut self.bytes, self.address).expect("the counters are in memory");
        for (at, (word, before)) in self.bytes.chunks_exact(8).zip(&mut self.before).enumerate() {
            let count = u64::from_ne_bytes(word.try_into().unwrap());
            if count != *before {
                tell(at, count - *before);
                *before = count;
            }
        }
    }
}

/// Address and size of a section of a 64-bit ELF file.
fn section(program: &[u8], name: &str) -> Option<(u64, u64)> {
    let short = |at: usize| Some(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(program.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(program.get(at..at + 8)?.try_into().ok()?));
    let (table, size) = (long(0x28)? as usize, usize::from(short(0x3a)?));
    let header = |number: usize| table + number * size;
    let names = long(header(usize::from(short(0x3e)?)) + 24)? as usize;
    (0..usize::from(short(0x3c)?)).map(header).find_map(|header| {
        let at = names + word(header)? as usize;
        let found = program.get(at..at + name.len() + 1)?;
        let is = found.strip_suffix(&[0]) == Some(name.as_bytes());
        is.then_some((long(header + 16)?, long(header + 32)?))
    })
}
