//! grantd is an OAuth broker daemon for MCP servers.

pub mod api;
pub mod broker;
pub mod catalog;
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
pub mod web;
pub mod yaml;
