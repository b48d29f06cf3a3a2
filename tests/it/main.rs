//! What grantd promises, shown on the real daemon: its own process, its own store, real sockets, and a provider on loopback.
//!
//! One module for each promise. What they share is in [`support`].

#![expect(unreachable_pub, reason = "what the modules share is public among them and goes nowhere else")]
#![allow(dead_code, reason = "not every promise needs everything the support has")]

mod accounts;
mod audit;
mod bad_input;
mod callers;
mod claims;
mod cli;
mod clock;
mod concurrency;
mod connect;
mod consent;
mod definition_test;
mod demo;
mod device;
mod disconnect;
mod faults;
mod forecast;
mod guards;
mod isolation;
mod kills;
mod machine;
mod metrics;
mod oidc_provider;
mod pages;
mod paste;
mod providers;
mod readme;
mod redirect;
mod refresh;
mod restart;
mod restore;
mod secrets;
mod service;
mod store_faults;
mod support;
mod tls;
mod token;
