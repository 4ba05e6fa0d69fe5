//! Questions to the families `ethtool` and `netdev`, each with the kernel that answers it first.

use rtnetlink::packet_core::DefaultNla;

use super::answers::{Channels, Features, Rings, XdpFeatures};
use super::attributes::{Attributes, flag, nested, number, text};
use super::error::NicError;
use super::generic::{Asker, Family, Refusal};
use super::rss::Rss;
use super::telling;

/// A question of a family: its command, what is asked, and the first kernel that answers.
#[derive(Clone, Copy)]
struct Question {
    command: u8,
    what: &'static str,
    since: &'static str,
}

const LINK_MODES: Question = Question { command: 4, what: "the link's speed", since: "5.6" };
const FEATURES: Question = Question { command: 11, what: "its features", since: "5.7" };
const SET_FEATURES: Question = Question { command: 12, what: "another setting of a feature", since: "5.7" };
const RINGS: Question = Question { command: 15, what: "the sizes of its rings", since: "5.7" };
const CHANNELS: Question = Question { command: 17, what: "the number of its queues", since: "5.7" };
const RSS: Question = Question { command: 38, what: "RSS (key and table)", since: "6.3" };
const QUEUE: Question = Question { command: 10, what: "who has its queues", since: "6.8" };
const DEVICE: Question = Question { command: 1, what: "the XDP features of a driver", since: "6.3" };

/// `ETHTOOL_A_…_HEADER`, in every question about an interface, and the name in it.
const HEADER: u16 = 1;
const HEADER_NAME: u16 = 2;

/// Asks the kernel about NICs.
pub struct Nic {
    asker: Asker,
    ethtool: Option<Family>,
    netdev: Option<Family>,
}

impl Nic {
    /// Opens a socket in the calling thread's network namespace; it is about the interfaces of that.
    pub fn open() -> Result<Nic, NicError> {
        let mut asker = Asker::open()?;
        let (ethtool, netdev) = (asker.family("ethtool")?, asker.family("netdev")?);
        Ok(Nic { asker, ethtool, netdev })
    }

    /// What XDP and AF_XDP can do on the interface with this ifindex.
    pub fn xdp_features(&mut self, index: u32, name: &str) -> Result<XdpFeatures, NicError> {
        const INDEX: u16 = 1;
        const XDP: u16 = 3;
        const SEGMENTS: u16 = 4;
        let id = known(self.netdev.as_ref(), DEVICE)?;
        let answer = self.asker.ask(id, DEVICE.command, &[number(INDEX, index)]);
        let answer = answer.map_err(|refusal| refused(name, DEVICE, refusal))?;
        let answer = Attributes(&answer);
        Ok(XdpFeatures::of(answer.u64(XDP).unwrap_or(0), answer.u32(SEGMENTS).unwrap_or(0)))
    }

    /// The receive queues, of so many, that an AF_XDP socket has. Before Linux 6.15 the kernel does not tell of any.
    pub fn held_queues(&mut self, index: u32, name: &str, queues: u32) -> Result<Vec<u32>, NicError> {
        const ID: u16 = 1;
        const INDEX: u16 = 2;
        const TYPE: u16 = 3;
        const RECEIVE: u32 = 0;
        const SOCKET: u16 = 7;
        let family = known(self.netdev.as_ref(), QUEUE)?;
        let mut held = Vec::new();
        for queue in 0..queues {
            let question = [number(INDEX, index), number(TYPE, RECEIVE), number(ID, queue)];
            let answer = self.asker.ask(family, QUEUE.command, &question);
            let answer = answer.map_err(|refusal| refused(name, QUEUE, refusal))?;
            if Attributes(&answer).value(SOCKET).is_some() {
                held.push(queue);
            }
        }
        Ok(held)
    }

    /// Descriptors of its queues.
    pub fn rings(&mut self, name: &str) -> Result<Rings, NicError> {
        self.ethtool(name, RINGS).map(|answer| Rings::of(Attributes(&answer)))
    }

    /// Its queues.
    pub fn channels(&mut self, name: &str) -> Result<Channels, NicError> {
        self.ethtool(name, CHANNELS).map(|answer| Channels::of(Attributes(&answer)))
    }

    /// What it was told to do, and does.
    pub fn features(&mut self, name: &str) -> Result<Features, NicError> {
        self.ethtool(name, FEATURES).map(|answer| Features::of(Attributes(&answer)))
    }

    /// Tells it to do something or not to, by the kernel's name (`rx-vlan-hw-parse`); whether that changed anything. Its
    /// driver may reset it.
    pub fn set_feature(&mut self, name: &str, feature: &str, on: bool) -> Result<bool, NicError> {
        const WANTED: u16 = 3;
        let kept = |why| Err(NicError::Kept { name: name.to_owned(), feature: feature.to_owned(), on, why });
        let before = self.features(name)?.get(feature).unwrap_or_default();
        if before.on == on {
            return Ok(false);
        }
        if before.fixed {
            return kept("its driver does not let it be changed");
        }
        let id = known(self.ethtool.as_ref(), SET_FEATURES)?;
        let value = on.then(|| flag(3));
        let bit = nested(1, &[text(2, feature)].into_iter().chain(value).collect::<Vec<_>>());
        let wanted = nested(WANTED, &[nested(3, &[bit])]);
        let told = self.asker.tell(id, SET_FEATURES.command, &[header(name), wanted]);
        told.map_err(|refusal| refused(name, SET_FEATURES, refusal))?;
        match self.features(name)?.is_on(feature) == on {
            true => Ok(true),
            false => kept("another of its features asks for that, or its driver refused; see the kernel's log"),
        }
    }

    /// Key, table and function of its RSS. Where netlink has no words, the older ioctl is asked.
    pub fn rss(&mut self, name: &str) -> Result<Rss, NicError> {
        match self.ethtool(name, RSS) {
            Ok(answer) => Ok(Rss::of(Attributes(&answer))),
            Err(NicError::TooOld { .. }) => telling::rss(name),
            Err(error) => Err(error),
        }
    }

    /// Megabits a second; `None` while that is not known, as without a link.
    pub fn link_speed(&mut self, name: &str) -> Result<Option<u32>, NicError> {
        const SPEED: u16 = 5;
        let answer = self.ethtool(name, LINK_MODES)?;
        Ok(Attributes(&answer).u32(SPEED).filter(|speed| !matches!(*speed, 0 | u32::MAX)))
    }

    fn ethtool(&mut self, name: &str, question: Question) -> Result<Vec<u8>, NicError> {
        let id = known(self.ethtool.as_ref(), question)?;
        let answer = self.asker.ask(id, question.command, &[header(name)]);
        answer.map_err(|refusal| refused(name, question, refusal))
    }
}

fn header(name: &str) -> DefaultNla {
    nested(HEADER, &[text(HEADER_NAME, name)])
}

/// The family's number, where this kernel knows the question.
fn known(family: Option<&Family>, question: Question) -> Result<u16, NicError> {
    let Question { command, what, since } = question;
    family.filter(|family| family.knows(command)).map(|family| family.id).ok_or(NicError::TooOld { what, since })
}

fn refused(name: &str, question: Question, refusal: Refusal) -> NicError {
    match refusal {
        Refusal::Errno(errno, text) => NicError::of(name, question.what, errno, text),
        Refusal::Socket(error) => NicError::Socket(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_can_be_asked_and_has_no_hardware() {
        let mut nic = Nic::open().unwrap();
        let features = nic.features("lo").unwrap();
        assert!(features.is_on("loopback") && features.get("loopback").unwrap().fixed, "{features:?}");
        let kept = nic.set_feature("lo", "loopback", false).unwrap_err();
        assert_eq!(kept.to_string(), "lo keeps loopback on: its driver does not let it be changed");
        assert!(kept.is_lasting());
        let error = nic.rings("lo").unwrap_err();
        assert!(matches!(error, NicError::Unsupported { .. }) && error.is_lasting(), "{error:?}");
        assert!(!nic.xdp_features(1, "lo").is_ok_and(|features| features.zero_copy));
        let error = nic.channels("rwnosuch0").unwrap_err();
        assert!(matches!(&error, NicError::Missing { name } if name == "rwnosuch0"), "{error:?}");
        assert!(!error.is_lasting());
    }

    #[test]
    fn a_question_that_the_kernel_does_not_know_tells_which_kernel_does() {
        let question = Question { command: 250, ..RSS };
        let error = known(Nic::open().unwrap().ethtool.as_ref(), question).unwrap_err();
        assert_eq!(error.to_string(), "this kernel does not tell RSS (key and table): that takes Linux 6.3");
        assert!(known(None, RSS).is_err());
    }
}
