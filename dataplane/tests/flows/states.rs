//! TCP states as rows: what each packet of a connection leads to. Those of forgers and of flows found in the middle are in
//! `forged`.

use super::*;
use Direction::{Original as C, Reply as E};
use State::*;

pub(super) type Row = (&'static str, Segment, &'static [(Direction, fn() -> Segment, State)]);

/// Name, first segment, then who sends what and the state after it.
fn rows() -> Vec<Row> {
    vec![
        (
            "handshake, data, orderly close by the client",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(ACK, 500, 100), Established),
                (C, || client(FIN, 100, 500), Closing),
                (E, || endpoint(ACK, 500, 101), Closing),
                (E, || endpoint(FIN, 500, 101), LastAckOriginal),
                (C, || client(ACK, 101, 501), Closed),
            ],
        ),
        (
            "the endpoint closes first, and lets data come for a while",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(FIN, 0, 0), Closing),
                (C, || client(ACK, 0, 1), Closing),
                (C, || client(ACK, 1000, 1), Closing),
                (E, || endpoint(ACK, 1, 2000), Closing),
                (C, || client(FIN, 2000, 1), LastAckReply),
                (C, || client(FIN, 2000, 1), LastAckReply),
                (E, || endpoint(ACK, 1, 2001), Closed),
            ],
        ),
        (
            "simultaneous close",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 0, 0), Closing),
                (E, || endpoint(FIN, 0, 0), LastAckOriginal),
                (C, || client(ACK, 1, 1), Closed),
                (E, || endpoint(ACK, 1, 1), Closed),
            ],
        ),
        (
            "retransmissions everywhere",
            syn(),
            &[
                (C, syn, SynSent),
                (E, syn_ack, SynReceived),
                (C, syn, SynReceived),
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, syn_ack, Established),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 0, 0), Closing),
                (C, || client(FIN, 0, 0), Closing),
                (E, || endpoint(FIN, 0, 1), LastAckOriginal),
                (E, || endpoint(FIN, 0, 1), LastAckOriginal),
                (C, || client(ACK, 1, 1), Closed),
                (E, || endpoint(FIN, 0, 1), Closed),
                (C, || client(ACK, 1, 1), Closed),
            ],
        ),
        (
            "data and FIN with the last segment of the handshake",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(FIN, 0, 0), Closing),
                (E, || endpoint(FIN, 0, 1), LastAckOriginal),
            ],
        ),
        (
            "simultaneous open",
            syn(),
            &[
                (E, || segment(SYN, ENDPOINT, 0), SynReceived),
                (C, || segment(SYN | ACK, CLIENT, ENDPOINT.wrapping_add(1)), Established),
            ],
        ),
        (
            "an acknowledgment of nothing that was sent does not establish",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || segment(ACK, CLIENT.wrapping_add(1), ENDPOINT.wrapping_add(0x4000_0000)), SynReceived),
                (C, || client(ACK, 0, 1), SynReceived),
                (C, || client(ACK, 0, 0), Established),
            ],
        ),
        (
            "refused by the endpoint",
            syn(),
            &[
                (E, || segment(RST | ACK, 0, CLIENT.wrapping_add(1)), Closed),
                (E, || endpoint(ACK, 0, 0), PickedUp),
                (C, || client(ACK, 0, 0), PickedUp),
                (E, || endpoint(ACK, 0, 0), Established),
            ],
        ),
        (
            "a refusal that acknowledges another SYN",
            syn(),
            &[(E, || segment(RST | ACK, 0, CLIENT.wrapping_add(2)), SynSent), (E, || segment(RST, 0, 0), SynSent)],
        ),
        (
            "the client gives up the handshake",
            syn(),
            &[(E, syn_ack, SynReceived), (C, || segment(RST, CLIENT.wrapping_add(1), 0), Closed)],
        ),
        (
            "reset by the client with data under way",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (E, || endpoint(ACK, 0, 100_000), Established),
                (C, || client(RST, 400_000, 0), Doubted),
                // What the endpoint had sent before, and the client's answer to it.
                (E, || endpoint(ACK, 5000, 100_000), Established),
                (C, || client(RST, 100_000, 0), Closed),
                (E, || endpoint(ACK, 5000, 100_000), Closed),
                (C, || client(RST, 100_000, 0), Closed),
            ],
        ),
        (
            "reset by the endpoint in answer to data",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(ACK, 0, 70_000), Established),
                (E, || endpoint(RST, 70_000, 0), Closed),
            ],
        ),
        (
            "a reset while closing",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (C, || client(ACK, 0, 0), Established),
                (C, || client(FIN, 0, 0), Closing),
                (E, || endpoint(RST, 0, 0), Closed),
            ],
        ),
        (
            "data with the handshake (Fast Open), and one acknowledgment for both",
            syn(),
            &[
                (E, syn_ack, SynReceived),
                (E, || Segment { payload: true, ..endpoint(ACK, 0, 0) }, Answered),
                (C, || client(ACK, 0, 1460), Established),
            ],
        ),
        (
            "no answer but an old connection's acknowledgment, which the client resets",
            syn(),
            &[
                (E, || segment(ACK, 77, CLIENT.wrapping_sub(0x2000_0000)), SynSent),
                (C, || segment(RST, CLIENT.wrapping_sub(0x2000_0000), 0), SynSent),
                (C, syn, SynSent),
                (E, syn_ack, SynReceived),
            ],
        ),
    ]
}

#[test]
fn every_row_holds() {
    for (name, first, steps) in rows().into_iter().chain(super::forged::rows()) {
        let mut table = table(4);
        let new = NewFlow { segment: first, ..masqueraded(Protocol::Tcp, "10.0.0.9:4000") };
        let id = table.open(&new, seconds(1)).unwrap().id;
        let opened = if first.flags.syn() && !first.flags.ack() { SynSent } else { PickedUp };
        assert_eq!(table.flow(id).state(), opened, "{name}");
        for (number, (direction, segment, after)) in steps.iter().enumerate() {
            assert_eq!(table.advance(id, *direction, &segment(), seconds(1)), *after, "{name}, step {number}");
            assert_eq!(table.flow(id).state(), *after, "{name}, step {number}");
            assert_eq!(table.half_open_len(), u32::from(after.is_half_open()), "{name}, step {number}");
        }
    }
}

#[test]
fn a_long_transfer_moves_the_marks_around_the_circle() {
    let mut table = table(4);
    let id = table.open(&masqueraded(Protocol::Tcp, "10.0.0.9:4000"), seconds(1)).unwrap().id;
    establish(&mut table, id, seconds(1));
    let mut sent = 0u32;
    for _ in 0..10_000 {
        sent = sent.wrapping_add(1_000_000);
        table.advance(id, C, &client(ACK, sent, 0), seconds(1));
        table.advance(id, E, &endpoint(ACK, 0, sent), seconds(1));
    }
    assert_eq!(table.advance(id, C, &client(RST, sent.wrapping_sub(0x1000_0000), 0), seconds(1)), Established);
    assert_eq!(table.advance(id, C, &client(RST, sent, 0), seconds(1)), Closed);
}

#[test]
fn a_syn_reopens_only_a_closed_flow() {
    let mut table = table(4);
    let new = masqueraded(Protocol::Tcp, "10.0.0.9:4000");
    let id = table.open(&new, seconds(1)).unwrap().id;
    assert!(!table.flow(id).reopens(C, &syn()));
    establish(&mut table, id, seconds(1));
    assert!(!table.flow(id).reopens(C, &syn()));
    close(&mut table, id, seconds(1));
    assert!(table.flow(id).reopens(C, &syn()));
    assert!(!table.flow(id).reopens(E, &syn()));
    assert!(!table.flow(id).reopens(C, &syn_ack()));
    assert!(!table.flow(id).reopens(C, &client(ACK, 1, 1)));
    let port = table.flow(id).reply().destination_port();
    table.remove(id, seconds(1));
    let id = table.open(&new, seconds(1)).unwrap().id;
    assert_eq!(table.flow(id).state(), SynSent);
    assert_ne!(table.flow(id).reply().destination_port(), port, "the old port rests");
}
