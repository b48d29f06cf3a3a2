//! Writes every page with sample data into a directory, to be looked at in a browser while working on the templates:
//! `cargo run --example pages -- target/pages`.

use std::path::Path;

use grantd::model::session::ConnectFailure;
use grantd::web::assets::{MARK, STYLESHEET, mark_path, stylesheet_path};
use grantd::web::pages::{Ask, Confirm, Done, Home, HomeProvider, Notice, Problem, ScopeLine, html};

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| "target/pages".into());
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("grantd.css"), STYLESHEET.text)?;
    std::fs::write(directory.join("mark.svg"), MARK.text)?;
    for (name, page) in pages() {
        let page = page.replace(stylesheet_path(), "grantd.css").replace(mark_path(), "mark.svg");
        std::fs::write(directory.join(format!("{name}.html")), page)?;
    }
    Ok(())
}

fn pages() -> Vec<(String, String)> {
    let mut pages = vec![
        ("home".to_owned(), html(&home())),
        ("home-empty".to_owned(), html(&Home { providers: Vec::new() })),
        ("ask".to_owned(), html(&ask())),
        ("ask-again".to_owned(), html(&ask_again())),
        ("ask-hostile".to_owned(), html(&ask_hostile())),
        ("confirm".to_owned(), html(&confirm())),
        ("confirm-other-account".to_owned(), html(&confirm_other_account())),
        ("done".to_owned(), html(&done())),
        ("elsewhere".to_owned(), html(&Notice::elsewhere("GitHub"))),
        ("unconfigured".to_owned(), html(&Notice::unconfigured("GitHub"))),
    ];
    for failure in ConnectFailure::ALL {
        let redirect_uri = "http://localhost:8717/callback/github";
        let docs = Some("https://github.com/settings/developers");
        let notice = Notice::ended(failure, "GitHub", "github", redirect_uri, docs);
        pages.push((format!("failed-{}", failure.as_str()), html(&notice)));
    }
    for problem in Problem::ALL {
        let name = problem.path().trim_start_matches("/stopped/");
        pages.push((format!("problem-{name}"), html(&problem.notice())));
    }
    pages
}

fn home() -> Home {
    let providers = [("github", "GitHub"), ("google", "Google"), ("notion", "Notion")];
    Home { providers: providers.map(|(id, name)| HomeProvider { id: id.to_owned(), name: name.to_owned() }).into() }
}

fn ask() -> Ask {
    Ask {
        id: "cn_kq0Yb3Yw1m2n3o4p5q6r7s".to_owned(),
        provider: "GitHub".to_owned(),
        host: "github.com".to_owned(),
        caller: "issue-reader".to_owned(),
        purpose: Some("Open an issue about the failing build in octo/widgets".to_owned()),
        scopes: scopes(),
        again: None,
        replaces: None,
        user_code: "WDJB-MJHT".to_owned(),
        opened: false,
        csrf: "sample".to_owned(),
    }
}

fn ask_again() -> Ask {
    Ask { purpose: None, scopes: Vec::new(), again: Some("octocat".to_owned()), opened: true, ..ask() }
}

fn ask_hostile() -> Ask {
    Ask {
        provider: "<b>GitHub</b>".to_owned(),
        caller: "a-caller-with-a-name-that-is-as-long-as-names-may-get-0123456789".to_owned(),
        purpose: Some(format!("\"><script>alert(1)</script> {}", "שלום וברכה ".repeat(12))),
        scopes: vec![line(None, &format!("https://scope.example/{}", "very.".repeat(30)))],
        ..ask()
    }
}

fn confirm() -> Confirm {
    Confirm {
        id: "cn_kq0Yb3Yw1m2n3o4p5q6r7s".to_owned(),
        provider: "GitHub".to_owned(),
        caller: "issue-reader".to_owned(),
        account: "octocat".to_owned(),
        account_id: "583231".to_owned(),
        instead_of: None,
        granted: scopes()[..2].to_vec(),
        refused: scopes()[2..].to_vec(),
        csrf: "sample".to_owned(),
    }
}

fn confirm_other_account() -> Confirm {
    Confirm {
        account: "עובד@example.org, Northwind Traders International Research Division".to_owned(),
        account_id: "T02ABCDEF:U0123456789".to_owned(),
        instead_of: Some("octocat".to_owned()),
        granted: scopes(),
        refused: Vec::new(),
        ..confirm()
    }
}

fn done() -> Done {
    Done {
        provider: "GitHub".to_owned(),
        account: "octocat".to_owned(),
        caller: "issue-reader".to_owned(),
        connection: "cx_0123456789abcdefghijkl".to_owned(),
    }
}

fn scopes() -> Vec<ScopeLine> {
    vec![
        line(Some("Read and write your repositories, public and private."), "repo"),
        line(Some("See your name, your picture and your public profile."), "read:user"),
        line(None, "read:project"),
    ]
}

fn line(sentence: Option<&str>, scope: &str) -> ScopeLine {
    ScopeLine { sentence: sentence.map(str::to_owned), scope: scope.to_owned() }
}
