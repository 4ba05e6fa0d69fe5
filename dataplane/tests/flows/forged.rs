//! TCP states as rows: segments that were forged, and flows found in the middle.

use super::states::Row;
use super::*;
use Direction::{Original as C, Reply as E};
use State::*;

fn data(segment: Segment) -> Segment {
    Segment { payload: true, ..segment }
}

/// A FIN with so many bytes of data.
fn last(segment: Segment, length: u16) -> Segment {
    Segment { payload: true, length, ..segment }
}

/// Name, first segment, then who sends what and the state after it.
pub(super) fn rows() -> Vec<Row> {
    vec![
        (
            "a forged reset, far off",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(RST, 0x0200_0000, 0), Established),
                (E, || endpoint(RST, 0x8000_0000, 0), Established),
                (E, || endpoint(RST, u32::MAX - 0x2_0000, 0), Established),
            ],
        ),
        (
            "a forged reset that hits by luck: the connection goes on",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(RST, 0, 0), Closed),
                (E, || endpoint(ACK, 10, 0), Closed),
                (C, || client(ACK, 0, 10), Doubted),
                (C, || client(ACK, 0, 10), Established),
                (C, || client(FIN, 0, 10), Closing),
            ],
        ),
        (
            "a forged reset in the window: the receiver asks back, and then no other counts",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(RST, 1, 0), Doubted),
                (C, syn, Doubted),
                (C, || client(RST, 1000, 0), Doubted),
                (E, || endpoint(ACK, 0, 0), Established),
                (C, || client(RST, 1, 0), Established),
                (E, || endpoint(RST, 700, 0), Established),
                (E, || endpoint(RST, 0, 0), Closed),
            ],
        ),
        (
            "a forged reset in the window, while closing",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 0, 0), Closing),
                (E, || endpoint(RST, 1, 0), Doubted),
                (E, || endpoint(ACK, 0, 1), Closing),
            ],
        ),
        (
            "a forged FIN outside the window, without an acknowledgment, or with a wrong one",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 0x0200_0000, 0), Established),
                (C, || client(FIN, u32::MAX, 0), Established),
                (C, || client(Flags::FIN, 0, 0), Established),
                (C, || client(FIN, 0, 0x0200_0000), Established),
                (E, || endpoint(FIN, 0x4000_0000, 0), Established),
                (C, || client(FIN, 0x0100_0001, 0), Established),
            ],
        ),
        (
            "a forged FIN in the window: the sender goes on, and the receiver says where it stands",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 1, 0), EndingOriginal),
                (E, || endpoint(ACK, 0, 0), EndingOriginal),
                (C, || client(ACK, 0, 0), EndingOriginal),
                (E, || endpoint(ACK, 0, 0), Established),
                (E, || endpoint(FIN, 0x00ff_ffff, 0), EndingReply),
                (E, || data(endpoint(ACK, 0, 0)), EndingReply),
                (C, || client(ACK, 0, 10), Established),
                (E, || endpoint(RST, 0x0100_0000, 0), Doubted),
                (C, || client(ACK, 0, 10), Established),
                (E, || endpoint(RST, 10, 0), Closed),
            ],
        ),
        (
            "a forged FIN in the window does not make room for a forged reset, or for another FIN",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 99, 0), EndingOriginal),
                (C, || client(RST, 100, 0), EndingOriginal),
                (C, || client(RST, 0, 0), EndingOriginal),
                (C, || client(FIN, 100, 0), EndingOriginal),
                (C, || client(FIN, 99, 0), EndingOriginal),
                (E, || endpoint(ACK, 0, 100), Established),
                (C, || client(FIN, 100, 0), Closing),
            ],
        ),
        (
            "a forged FIN in the window, and the connection gets further than it says",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 99, 0), EndingOriginal),
                (E, || endpoint(ACK, 0, 101), Established),
                (C, || client(RST, 101, 0), Closed),
            ],
        ),
        (
            "a forged FIN in the window, and the sender's next data begin where it ends",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 99, 0), EndingOriginal),
                (C, || data(client(ACK, 100, 0)), EndingOriginal),
                (E, || endpoint(ACK, 0, 100), Established),
            ],
        ),
        (
            "a forged FIN in the window, and a forged acknowledgment far off",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 99, 0), EndingOriginal),
                (C, || client(ACK, 0, 0), EndingOriginal),
                (E, || endpoint(ACK, 0, 0x4000_0000), EndingOriginal),
                (E, || endpoint(ACK, 0, 0), Established),
            ],
        ),
        (
            "a forged FIN in the window after a forged reset in it: no other such reset counts",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(RST, 1, 0), Doubted),
                (C, || client(FIN, 99, 0), EndingOriginal),
                (C, || client(ACK, 0, 0), EndingOriginal),
                (E, || endpoint(ACK, 0, 0), Established),
                (C, || client(RST, 1, 0), Established),
            ],
        ),
        (
            "a FIN with data under way counts when it is acknowledged",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || last(endpoint(FIN, 1000, 0), 500), EndingReply),
                (C, || client(ACK, 0, 1000), EndingReply),
                (E, || last(endpoint(FIN, 1000, 0), 500), EndingReply),
                (C, || client(ACK, 0, 1501), Closing),
                (C, || client(FIN, 0, 1501), LastAckReply),
                (E, || endpoint(ACK, 1501, 1), Closed),
            ],
        ),
        (
            "two FINs with data under way, the second of which acknowledges the first",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(FIN, 1000, 0), EndingReply),
                (C, || client(FIN, 7, 1001), LastAckReply),
                (E, || endpoint(ACK, 1001, 8), Closed),
            ],
        ),
        (
            "two FINs that cross",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(FIN, 1000, 0), EndingReply),
                (C, || client(FIN, 0, 0), Closing),
                (E, || endpoint(ACK, 1001, 1), Closing),
            ],
        ),
        (
            "a forged acknowledgment does not make room for a forged reset",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(ACK, 0, 0x4000_0000), Established),
                (C, || client(RST, 0x4000_0000, 0), Established),
                (C, || client(RST, 0, 0), Closed),
            ],
        ),
        (
            "a forged acknowledgment in the window is forgotten with the next one",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(ACK, 0, 0x00ff_0000), Established),
                (E, || endpoint(ACK, 0, 100), Established),
                (C, || client(RST, 100, 0), Closed),
            ],
        ),
        (
            "picked up in the middle",
            client(ACK, 5_000_000, 100),
            &[
                (C, || client(ACK, 5_001_000, 100), PickedUp),
                (E, || endpoint(ACK, 100, 5_001_000), Established),
                (C, || client(RST, 5_001_000, 100), Closed),
            ],
        ),
        (
            "picked up, and unknown to the endpoint",
            client(ACK, 5_000_000, 100),
            &[(E, || endpoint(RST, 100, 0), Closed), (C, || client(ACK, 5_000_000, 100), Closed)],
        ),
        (
            "picked up twice, and unknown to the endpoint both times",
            client(ACK, 5_000_000, 100),
            &[(C, || client(ACK, 0x5000_0000, 0x5000_0000), PickedUp), (E, || endpoint(RST, 100, 0), Closed)],
        ),
        (
            "picked up by a SYN with ACK, or by nothing with a number, and unknown to the endpoint",
            client(SYN | ACK, 5_000_000, 100),
            &[(C, || client(0, 7, 7), PickedUp), (E, || segment(RST | ACK, 0, CLIENT.wrapping_add(8)), Closed)],
        ),
        (
            "picked up, and answered by another connection",
            client(ACK, 5_000_000, 100),
            &[
                (E, || endpoint(ACK, 0x3000_0000, 0x5000_0000), PickedUp),
                (C, || client(ACK, 5_000_000, 100), PickedUp),
                (E, || endpoint(ACK, 100, 0x5000_0000), PickedUp),
                (E, || endpoint(ACK, 0x3000_0000, 5_000_000), PickedUp),
            ],
        ),
        (
            "picked up with data under way from the endpoint, which the client then acknowledges",
            client(ACK, 5_000_000, 100),
            &[
                (E, || endpoint(ACK, 60_000, 5_000_000), Answered),
                (E, || endpoint(ACK, 61_000, 5_000_000), Answered),
                (C, || client(ACK, 5_000_000, 100), Answered),
                (C, || client(ACK, 5_000_000, 59_999), Answered),
                (C, || client(ACK, 0x5000_0000, 60_000), Answered),
                (C, || client(ACK, 5_000_000, 61_000), Established),
                (C, || client(RST, 5_000_000, 0), Closed),
            ],
        ),
        (
            "picked up and answered, and the client leaps",
            client(ACK, 5_000_000, 100),
            &[
                (E, || endpoint(ACK, 60_000, 5_000_000), Answered),
                (C, || client(ACK, 5_000_000, 60_000 + 0x4_0001), PickedUp),
                (E, || endpoint(ACK, 60_000 + 0x4_0001, 5_000_000), Established),
            ],
        ),
        (
            "a blind acknowledgment while the endpoint waits for the right one: its RST is the forger's",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 77), SynReceived),
                (E, || endpoint(RST, 77, 0), SynReceived),
                (E, || endpoint(ACK, 0, 0), SynReceived),
                (C, || client(ACK, 0, 0), Established),
            ],
        ),
        (
            "a client's SYN with ACK is no acknowledgment of the endpoint's by itself",
            syn(),
            &[
                (C, || segment(SYN | ACK, CLIENT, 99), PickedUp),
                (E, syn_ack, SynReceived),
                (C, || segment(SYN | ACK, CLIENT, 99), SynReceived),
                (C, || client(ACK, 0, 0), Established),
            ],
        ),
        (
            "a forged SYN in the middle of the handshake does not keep it from its end",
            syn(),
            &[
                (C, || segment(SYN, 0x1234_5678, 0), SynSent),
                (E, syn_ack, SynSent),
                (C, || client(ACK, 0, 0), PickedUp),
                (E, || endpoint(ACK, 0, 100), Established),
            ],
        ),
        (
            "the endpoint has forgotten the connection, and the client begins another",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                // Nobody asked for it; then the old one's once more; then another's.
                (E, || segment(SYN | ACK, 0x1000_0000, 0x2000_0000), Established),
                (C, || segment(SYN, 0x1fff_ffff, 0), Established),
                (E, syn_ack, Established),
                (E, || segment(SYN | ACK, 0x1000_0000, 0x2000_0000), SynReceived),
                (C, || segment(ACK, 0x2000_0000, 0x1000_0001), Established),
            ],
        ),
        (
            "picked up with the FIN",
            client(FIN, 10, 10),
            &[(E, || endpoint(ACK, 10, 11), Closing), (E, || endpoint(FIN, 10, 11), LastAckOriginal)],
        ),
        (
            "picked up, then a new connection from the same port",
            client(ACK, 10, 10),
            &[(C, syn, SynSent), (E, syn_ack, SynReceived), (C, || client(ACK, 0, 0), Established)],
        ),
    ]
}
