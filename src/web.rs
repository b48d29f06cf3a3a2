//! The pages people see: a small web listener on loopback that asks, confirms and explains, and leaves the work to the broker.
//!
//! A request passes [`listener`] (who is at the other end), `gate` (is it meant for us), `route` (which page), `handler`
//! (ask the broker) and `answer` (headers that keep a browser safe). What a page says is in [`pages`]; how it looks is in
//! `templates/` and `assets/grantd.css`. There is no script on any page.

mod answer;
pub mod assets;
mod conversation;
mod cookie;
mod form;
mod gate;
mod handler;
mod handshake;
pub mod listener;
pub mod pages;
mod person;
mod query;
mod route;
mod service;
mod wording;
