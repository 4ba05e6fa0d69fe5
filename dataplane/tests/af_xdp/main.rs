//! AF_XDP with a real kernel: sockets, steering and TAP on veth pairs between network namespaces. Needs root.
#![allow(missing_docs, reason = "a test")]

mod handing;
mod large;
mod maps;
mod packets;
mod ports;
mod restart;
mod sockets;
mod steering;
mod steering_errors;
mod tap;
mod veth;
