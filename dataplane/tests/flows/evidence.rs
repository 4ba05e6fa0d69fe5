//! What shows that a client of UDP or SCTP hears the endpoint.

use super::*;
use Direction::{Original as C, Reply as E};
use State::*;

/// A conversation is one when the client goes on two seconds after the first answer.
#[test]
fn udp_knows_a_query_from_a_conversation() {
    let mut table = table(4);
    let id = table.open(&masqueraded(Protocol::Udp, "[2001:db8::9]:4000"), millis(0)).unwrap().id;
    let mut packet = |direction, at| {
        let state = table.advance(id, direction, &Segment::default(), millis(at));
        (state, table.half_open_len())
    };
    assert_eq!(packet(C, 0), (UdpUnreplied, 1));
    assert_eq!(packet(E, 100), (UdpAnswered, 0));
    assert_eq!(packet(C, 2_099), (UdpAnswered, 0));
    assert_eq!(packet(E, 9_000), (UdpAnswered, 0));
    assert_eq!(packet(C, 9_000), (UdpReplied, 0));
    assert_eq!(packet(E, 9_000), (UdpReplied, 0));
}

/// An SCTP packet with this tag and first chunk.
fn sctp(chunk: u8, tag: u32, initiate: u32) -> Segment {
    Segment { sequence: tag, acknowledgment: initiate, chunk, ..Segment::default() }
}

/// Chunk types.
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

#[test]
fn sctp_is_replied_once_a_tag_shows_it() {
    type Row = (&'static str, Segment, &'static [(Direction, (u8, u32, u32), State)]);
    let rows: [Row; 7] = [
        (
            "a handshake",
            sctp(INIT, 0, 7),
            &[
                (E, (INIT_ACK, 7, 9), SctpUnreplied),
                (C, (COOKIE_ECHO, 9, 0), SctpReplied),
                (E, (COOKIE_ACK, 7, 0), SctpReplied),
            ],
        ),
        (
            "a handshake whose answer came another way",
            sctp(INIT, 0, 7),
            &[(C, (COOKIE_ECHO, 9, 0), SctpUnreplied), (E, (COOKIE_ACK, 7, 0), SctpReplied)],
        ),
        (
            "a forged one: whatever comes with a guessed tag, the endpoint says nothing but that it knows no such thing",
            sctp(INIT, 0, 7),
            &[
                (E, (INIT_ACK, 7, 9), SctpUnreplied),
                (C, (COOKIE_ECHO, 8, 0), SctpUnreplied),
                (C, (DATA, 0, 0), SctpUnreplied),
                (C, (INIT, 0, 5), SctpUnreplied),
                (C, (DATA, 9, 0), SctpUnreplied),
                (E, (ABORT, 8, 0), Closed),
                (C, (DATA, 8, 0), Closed),
            ],
        ),
        (
            "a forged one where the endpoint has another association",
            sctp(INIT, 0, 7),
            &[
                (E, (HEARTBEAT, 77, 0), SctpUnreplied),
                (E, (SACK, 77, 0), SctpUnreplied),
                (E, (SHUTDOWN_ACK, 7, 0), SctpUnreplied),
                (E, (INIT_ACK, 77, 9), SctpUnreplied),
                (C, (COOKIE_ECHO, 9, 0), SctpUnreplied),
            ],
        ),
        ("picked up", sctp(DATA, 9, 0), &[(E, (DATA, 7, 0), SctpUnreplied), (E, (SACK, 7, 0), SctpReplied)]),
        ("picked up idle", sctp(HEARTBEAT, 9, 0), &[(E, (HEARTBEAT_ACK, 7, 0), SctpReplied)]),
        (
            "begun anew after an end",
            sctp(DATA, 9, 0),
            &[
                (E, (ABORT, 9, 0), Closed),
                (C, (INIT, 0, 7), SctpUnreplied),
                (E, (INIT_ACK, 7, 9), SctpUnreplied),
                (C, (COOKIE_ECHO, 9, 0), SctpReplied),
            ],
        ),
    ];
    for (name, first, steps) in rows {
        let mut table = table(4);
        let new = NewFlow { segment: first, ..masqueraded(Protocol::Sctp, "10.0.0.9:4000") };
        let id = table.open(&new, seconds(1)).unwrap().id;
        for (number, (direction, (chunk, tag, initiate), after)) in steps.iter().enumerate() {
            let segment = sctp(*chunk, *tag, *initiate);
            assert_eq!(table.advance(id, *direction, &segment, seconds(1)), *after, "{name}, step {number}");
            assert_eq!(table.half_open_len(), u32::from(after.is_half_open()), "{name}, step {number}");
        }
    }
}
