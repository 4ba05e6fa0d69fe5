//! ringway-control
