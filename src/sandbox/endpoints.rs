//! What each address of the sandbox answers.

pub(super) mod authorize;
pub(super) mod control;
pub(super) mod device;
pub(super) mod home;
pub(super) mod pages;
pub(super) mod token;
pub(super) mod userinfo;
