//! grantd is an OAuth broker daemon for MCP servers. A person connects an account once, in a browser; every MCP server on the
//! machine then asks grantd for an access token on each tool call, and gets one that works.
//!
//! # The roles
//!
//! A [provider](model::provider) is an authorization server (RFC 6749 section 1.1), described by a YAML file that the
//! [`catalog`] reads. A [client](model::client) is our registration there. A [subject](model::subject) is whose account it is,
//! and a [connection](model::connection) is one subject's account at one provider: it holds a grant, whose refresh token never
//! leaves this process. A [caller](model::caller) is whoever asks; the kernel says who that is.
//!
//! # The house
//!
//! Imports point downwards only, and modules on one floor do not know each other; `tests/layers.rs` holds this.
//!
//! ```text
//! L6  cli                                     the commands
//! L5  daemon  sandbox                         builds everything and runs it; a local provider that plays every quirk
//! L4  api  web  jobs  config                  the socket API; the pages; the schedule; the operator's file
//! L3  broker                                  the use cases
//! L2  store  egress  tls                      what survives a restart; the only way out; what a listener shows
//! L1  oauth  catalog  policy  seal  clock     logic on values; time and transport are handed in
//! L0  model  telemetry  yaml  failpoint       the words; places where tests make things fail
//! ```
//!
//! # One token request
//!
//! 1. [`api::serve`] accepts the connection and asks the kernel who is at the other end; [`api::peer`] makes a caller of it.
//! 2. `api::token` parses the JSON into a [`TokenRequest`](broker::token::TokenRequest), once.
//! 3. [`broker::token`] asks the [`policy`], looks into the [`cache`](broker::cache), and in all but a few cases answers from
//!    there: no disk, no network.
//! 4. If the token has too little life left, the caller joins the one [flight](broker::flight) that [renews](broker::renew) this
//!    grant. The flight runs on a task of its own, so nobody's hanging up can stop it: it opens the refresh token ([`seal`]),
//!    dials ([`egress`]), makes its intent durable while the connection is held ([`Store::arm`](store::Store::arm)), sends the
//!    refresh token once ([`oauth::exchange`]), [keeps](broker::keep) the answer by compare-and-set
//!    ([`Store::replace_grant`](store::Store::replace_grant)), or else in the [spool](store::spool), and only then lets anybody
//!    see the new token. `docs/REFRESH.md` tells it step by step.
//! 5. [`api::problem`] is the one place where an error becomes a status code. An error that needs a person carries the link to a
//!    page of [`web`], where the account is connected.

#[macro_use]
pub mod failpoint;

pub mod api;
pub mod broker;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod egress;
pub mod jobs;
pub mod model;
pub mod oauth;
pub mod policy;
pub mod sandbox;
pub mod seal;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod web;
pub mod yaml;
