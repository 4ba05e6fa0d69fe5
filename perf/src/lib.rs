//! ringway-perf
