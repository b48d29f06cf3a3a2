//! The words of grantd: the nouns every other module speaks in, each tied to the RFC term it stands for.

pub mod audit;
pub mod caller;
pub mod claims;
pub mod client;
pub mod client_key;
pub mod connection;
pub mod grant_type;
pub mod id;
pub mod label;
pub mod provider;
pub mod rule;
pub mod scope;
pub mod secret;
pub mod session;
pub mod subject;
pub mod time;
pub mod token;
pub mod unit;
