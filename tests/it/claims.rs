//! What a provider wants to see proven when it refuses a refresh goes into the next authorization, and nowhere else.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::journey::{assert_says, param};
use crate::support::{Journey, World, eventually};

const CHALLENGE: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"CHALLENGE_7f3a"}}}"#;

/// A token endpoint that refuses everything with a challenge. Its address.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/token", listener.local_addr().unwrap());
    let body = json!({"error": "interaction_required", "error_description": "CHALLENGE_text", "error_codes": [50079],
                      "claims": CHALLENGE})
    .to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = body.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut portion = [0; 4096];
                    match stream.read(&mut portion).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => request.extend_from_slice(&portion[..read]),
                    }
                }
                let head = format!(
                    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            });
        }
    });
    address
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_none_or(|length: usize| body.len() >= length)
}

impl World {
    /// Points the token endpoint somewhere else while the daemon runs.
    async fn move_token_endpoint(&self, from: &str, to: &str) {
        let taken = |log: String| log.matches("Took the new configuration").count();
        let before = taken(self.daemon.log());
        self.daemon.home.redefine(&format!("token: {from}\n"), &format!("token: {to}\n"));
        self.daemon.signal("HUP");
        eventually("the configuration is taken", async || taken(self.daemon.log()) > before).await;
    }

    fn kept_claims(&self) -> Vec<Option<String>> {
        let store = rusqlite::Connection::open(self.daemon.home.store()).unwrap();
        let mut statement = store.prepare("SELECT claims FROM connections").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_goes_into_the_next_authorization_and_is_then_forgotten() {
    let world = World::arranged(grantd::sandbox::Options::default(), |home, _| {
        home.redefine("authorize:\n", "authorize:\n  claims_param: claims\n");
        let hint = "hints: [{number: [50079], sentence: A second factor is needed.}]";
        home.redefine(
            "refresh:\n",
            &format!("response: {{claims: /claims, error_number: [/error_codes/0], {hint}}}\nrefresh:\n"),
        );
    })
    .await;
    assert_says(&world.connect("u-1001").await, &["Connected"]);
    let first = world.daemon.token(json!({})).await;
    assert_eq!(first.status, 200, "{first:?}");

    let (good, bad) = (format!("{}token", world.sandbox.url()), refusing().await);
    world.move_token_endpoint(&good, &bad).await;
    let refused = world.daemon.token(json!({"rejected": first.json["token_id"]})).await;
    assert_ne!(refused.status, 200, "{refused:?}");
    eventually("a person is needed", async || {
        world.daemon.token(json!({})).await.json["error"] == "reconnect_required"
    })
    .await;
    assert_eq!(world.kept_claims(), [Some(CHALLENGE.to_owned())]);
    assert!(world.daemon.log().contains("; 50079: A second factor is needed."), "the operator is told what it means");

    world.move_token_endpoint(&bad, &good).await;
    let told = world.daemon.token(json!({})).await;
    let journey = Journey::open(&told).await;
    assert_eq!(param(&journey.start().await, "claims"), CHALLENGE);
    assert!(!journey.page.body.contains("CHALLENGE"), "{}", journey.page.body);
    assert_says(&journey.finish("u-1001").await, &["Connected"]);
    assert_eq!(world.kept_claims(), [None]);
    let again = world.daemon.token(json!({})).await;
    assert!(world.is_live(&again.json["access_token"]).await);

    let request = json!({"provider": "sandbox", "reconnect": again.json["connection"]});
    let later = Journey::of(&world, request).await.start().await;
    assert!(later.query_pairs().all(|(name, _)| name != "claims"), "{later}");
    assert!(!world.daemon.log().contains("CHALLENGE"), "the provider's words are in nobody's log");
}
