//! What the tests of the command share: sessions as a daemon tells of them.

use serde_json::{Value, json};

use crate::api::wire::SessionBody;
use crate::cli::connect::ConnectArgs;

pub(super) fn session(status: &str, host: &str) -> Value {
    json!({
        "connect_id": "cn_1", "provider": "github", "status": status,
        "done": !matches!(status, "pending" | "opened" | "awaiting_confirmation"),
        "connect_url": format!("http://{host}/connect/cn_1"), "connect_expires_at": 4_000_000_000_i64,
        "user_code": "WDJB-MJHT", "scopes": ["repo"],
    })
}

pub(super) fn body(status: &str, host: &str) -> SessionBody {
    serde_json::from_value(session(status, host)).unwrap()
}

pub(super) fn args() -> ConnectArgs {
    ConnectArgs {
        provider: "github".parse().unwrap(),
        scopes: vec![],
        reconnect: None,
        no_open: false,
        device: false,
        paste: false,
        yes: false,
        json: false,
    }
}

pub(super) fn completed() -> Value {
    let mut end = session("completed", "localhost:8717");
    end["account"] = json!({"id": "1", "name": "octo\u{1b}cat"});
    end["connection"] = json!("cx_1");
    end
}
