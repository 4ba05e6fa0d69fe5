//! ringway-dataplane
