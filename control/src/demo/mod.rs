//! `ringway demo`: client, gateway and backends in network namespaces, and a story that checks itself.

pub mod netns;
pub mod process;
