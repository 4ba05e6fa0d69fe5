//! ringway-tests
