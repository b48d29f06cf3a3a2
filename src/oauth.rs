//! The protocol, with the transport handed in: one exchange per file, nothing here opens a socket or asks the time.
//!
//! Whoever calls brings a function from request to response. The daemon brings `egress`, a unit test brings a closure.
//! Between that function and the `oauth2` crate stands [`quirk`], which turns what a provider really does into what the RFCs
//! say, as its definition tells.

pub mod answer;
pub mod assertion;
pub mod authorize;
pub mod callback;
pub mod device;
pub mod exchange;
pub mod id_token;
pub mod identity;
pub mod json;
pub mod quirk;
pub mod refused;
pub mod rejection;
pub mod retry_after;
pub mod revoke;
pub mod transport;
