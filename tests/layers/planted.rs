//! The rules can be broken: planted mistakes are found, and what is allowed is not taken for one.

use crate::source::{File, test_modules};
use crate::{MOST_LINES, against_the_layers, backends_named, shape};

#[test]
fn imports_against_the_layers_are_found() {
    for (path, text) in [
        ("model/id.rs", "use crate::clock::Clock;"),
        ("policy.rs", "use crate::seal::Keyring;"),
        ("broker/token.rs", "pub use crate::api::wire;"),
        ("broker/token.rs", "fn f() -> crate::daemon::Daemon { todo() }"),
        ("broker/token.rs", "use super::super::web::pages;"),
        ("broker/mod.rs", "use super::jobs;"),
        ("broker.rs", "use super::jobs;"),
        ("store.rs", "mod deep { use super::super::egress::Egress; }"),
        ("seal.rs", "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}"),
        ("oauth.rs", "macro_rules! m { () => { $crate::egress::get() } }"),
        ("oauth.rs", "let text = \"a\\\"\"; crate::egress::get();"),
        ("oauth.rs", "fn f<'a>(x: &'a str) { crate::egress::get('\"') }"),
        ("oauth.rs", "use {crate::model::id, crate::egress};"),
        ("web.rs", "use grantd::api::wire;"),
        ("broker.rs", "use crate::{model::id, store::Store};"),
        ("nowhere.rs", "fn f() {}"),
    ] {
        assert_eq!(against_the_layers(&File::new(path, text)).len(), 1, "{path}: {text}");
    }
}

#[test]
fn imports_with_the_layers_are_left_alone() {
    for (path, text) in [
        ("broker/token.rs", "use crate::store::records::{Grant, GrantKey};\nuse crate::broker::error::BrokerError;"),
        ("broker/token.rs", "// use crate::api::wire;\n/* crate::api /* crate::web */ crate::cli */"),
        ("broker/token.rs", "let text = \"crate::api\"; let raw = r#\"\"crate::api\"#;"),
        ("broker.rs", "pub(crate) mod token; pub(in crate::broker) fn f() {}"),
        // A child may have the name of a module below the root.
        ("cli/status.rs", "use super::sandbox::run;"),
        ("broker.rs", "mod tests { use super::api; }"),
        ("main.rs", "use grantd::cli;"),
        ("lib.rs", "pub mod cli;"),
    ] {
        assert_eq!(against_the_layers(&File::new(path, text)), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn a_named_backend_is_found() {
    for (path, text) in [
        ("broker.rs", "use crate::store::sqlite::Sqlite;"),
        ("broker.rs", "use crate::store::{Store, memory};"),
        ("broker.rs", "use crate::store;\nfn f() { store::memory::Memory::new() }"),
        ("cli/demo.rs", "use crate::store::{records::Grant, memory::{Memory}};"),
        ("main.rs", "use grantd::store::sqlite::Sqlite;"),
        ("jobs.rs", "struct A { #[cfg(test)] a: u8 }\nfn f() { crate::store::memory::Memory::new() }"),
        ("jobs.rs", "#[cfg(test)]\nmod tests;\nuse crate::store::memory::Memory;"),
        ("jobs.rs", "#[cfg(test)]\n#[allow(dead_code)]\nfn f(x: [u8; 2]) {}\nuse crate::store::memory::Memory;"),
    ] {
        assert_eq!(backends_named(&File::new(path, text)).len(), 1, "{path}: {text}");
    }
}

#[test]
fn a_backend_may_be_named_by_the_daemon_and_by_tests() {
    for (path, text) in [
        ("daemon.rs", "use crate::store::sqlite::Sqlite;"),
        ("store/conformance.rs", "use crate::store::memory::Memory;"),
        ("broker.rs", "use crate::store::Store;\n#[cfg(test)]\nmod tests {\n    use crate::store::memory::Memory;\n}"),
        ("broker.rs", "#[cfg(test)]\nuse crate::store::{memory::Memory, Store};"),
    ] {
        assert_eq!(backends_named(&File::new(path, text)), Vec::<String>::new(), "{path}: {text}");
    }
    let parent = File::new("broker.rs", "#[cfg(test)]\nmod tests;\nmod token;");
    assert_eq!(test_modules(&parent), [std::path::PathBuf::from("broker/tests")]);
}

#[test]
fn a_file_without_a_shape_is_found() {
    let long = format!("//! Long.\n{}", "\n".repeat(MOST_LINES));
    for (path, text) in [
        ("clock.rs", "use std::time::Duration;"),
        ("clock.rs", "//!No space."),
        ("clock.rs", long.as_str()),
        ("broker/utils.rs", "//! Strays."),
        ("broker.rs", "//! Strays.\npub(crate) mod helpers;"),
    ] {
        assert_eq!(shape(&File::new(path, text)).len(), 1, "{path}");
    }
    let good = format!("//! Short.\nmod token;{}", "\n".repeat(MOST_LINES - 1));
    assert_eq!(shape(&File::new("broker.rs", &good)), Vec::<String>::new());
}
