//! The commands for tokens and connections: what they print, where, and their exit codes.

use serde_json::{Value, json};

use super::ADA;
use crate::support::daemon::Output;
use crate::support::{Daemon, World, eventually};

// The commands block the thread of the test, and the sandbox has to answer meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_by_their_exit_codes_how_it_went() {
    let mut world = World::new().await;
    let missing = world.daemon.run(&["token", "sandbox"]);
    assert_eq!((missing.code, missing.out.as_str()), (3, ""), "{missing:?}");
    let link = world.daemon.token(json!({})).await.url("connect_url");
    assert!(missing.err.contains(link.as_str()), "{missing:?}");
    let status = world.daemon.run(&["status"]);
    assert!(status.code == 0 && status.out.contains("grantd connect sandbox"), "{status:?}");

    world.connect(ADA).await;
    let token = world.live_token(json!({})).await;
    let secret = token.text("access_token");
    for (args, out) in [
        (&["token", "sandbox"][..], format!("{secret}\n")),
        (&["token", "sandbox", "--header"], format!("Authorization: Bearer {secret}\n")),
        (&["token", "sandbox", "--account", ADA, "--scope", "email", "--min-ttl", "5m"], format!("{secret}\n")),
    ] {
        let printed = world.daemon.run(args);
        assert_eq!((printed.code, printed.out, printed.err.as_str()), (0, out, ""), "{args:?}");
    }
    let printed = world.daemon.run(&["token", "sandbox", "--json"]);
    let printed: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(printed["access_token"], secret);

    let more = world.daemon.run(&["token", "sandbox", "--scope", "repo"]);
    assert_eq!((more.code, more.out.as_str()), (3, ""), "{more:?}");
    assert!(more.err.contains("repo") && more.err.contains("/connect/cn_"), "{more:?}");
    for (args, code) in [
        (&["token", "github"][..], 2),
        (&["token", "sandbox", "--account", "nobody"], 2),
        (&["token"], 2),
        (&["token", "sandbox", "--no-such-flag"], 2),
        (&["disconnect", "sandbox"], 2),
    ] {
        let refused = world.daemon.run(args);
        assert_eq!((refused.code, refused.out.as_str()), (code, ""), "{args:?}: {refused:?}");
        assert!(!refused.err.is_empty());
    }

    let status = world.daemon.run(&["status"]);
    for part in ["sandbox", "ada@sandbox.example", "connected", token.text("connection")] {
        assert!(status.out.contains(part), "no `{part}` in {status:?}");
    }
    let status = world.daemon.run(&["status", "--json"]);
    let listed: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(listed["connections"][0]["id"], token.json["connection"]);

    let gone = world.daemon.run(&["disconnect", "sandbox", "--yes"]);
    assert!(gone.code == 0 && gone.out.contains("has confirmed"), "{gone:?}");
    assert!(world.sandbox.grants().iter().all(|grant| grant.ended.is_some()));
    world.assert_sound();

    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    for args in [&["token", "sandbox"][..], &["status"], &["disconnect", "sandbox", "--yes"], &["connect", "sandbox"]] {
        let unreachable = world.daemon.run(args);
        assert_eq!((unreachable.code, unreachable.out.as_str()), (7, ""), "{args:?}: {unreachable:?}");
    }
}

#[tokio::test]
async fn the_connect_command_waits_for_the_person_and_names_the_account() {
    let world = World::new().await;
    let mut command = Daemon::command(&world.daemon.home);
    command.args(["connect", "sandbox", "--no-open"]);
    let waiting = tokio::task::spawn_blocking(move || Output::of(&mut command));
    eventually("the command asks", async || world.sessions() == 1).await;
    world.connect(ADA).await;
    let output = waiting.await.unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("ada@sandbox.example"), "{output:?}");
    assert!(output.err.contains("/connect/cn_"), "{output:?}");
    world.assert_sound();
}
