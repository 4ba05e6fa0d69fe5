//! Ringway at a real API server: Services and Pods as a user makes them, with the real controllers in between, and
//! everything that may happen to the API server meanwhile.

mod outages;
mod shop;
mod traffic;
mod user;
