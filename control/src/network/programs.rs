//! Which XDP programs are on a device: somebody may take Ringway's off, of which the kernel tells nobody.

use std::io;

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};

use super::questions::Asker;

/// Asks the kernel of the network namespace that it was opened in.
pub struct Programs(Asker);

impl Programs {
    /// Opens a socket.
    pub fn open() -> io::Result<Self> {
        Asker::open().map(Programs)
    }

    /// The numbers of the programs on a device; `None` when it is gone.
    pub fn on(&mut self, index: u32) -> io::Result<Option<Vec<u32>>> {
        Ok(self.0.link(index)?.as_ref().map(numbers))
    }
}

fn numbers(message: &LinkMessage) -> Vec<u32> {
    let all = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(all) => Some(all),
        _ => None,
    });
    let number = |xdp: &LinkXdp| match xdp {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    };
    all.flatten().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_programs_has_none_and_one_that_is_not_there_is_gone() {
        let mut programs = Programs::open().unwrap();
        assert_eq!(programs.on(1).unwrap(), Some(Vec::new()), "lo");
        assert_eq!(programs.on(u32::MAX >> 1).unwrap(), None);
        assert_eq!(programs.on(1).unwrap(), Some(Vec::new()), "the socket goes on");
        let xdp = vec![LinkXdp::ProgId(7), LinkXdp::DrvProgId(7), LinkXdp::HwProgId(9)];
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Xdp(xdp));
        assert_eq!(numbers(&message), [7, 7]);
    }
}
