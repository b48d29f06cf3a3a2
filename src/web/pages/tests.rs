//! Every page says what it must, and nothing that somebody else wrote becomes part of it.

use std::sync::Arc;

use crate::broker::connect::Visit;
use crate::model::scope::ScopeSet;
use crate::model::session::{ConnectFailure, Progress};
use crate::web::pages::sample::{account, scopes, standings, visit};
use crate::web::pages::{Home, HomeProvider, Page, Problem, html};

fn page(visit: &Visit) -> String {
    Page::of(visit, "the-form-token").html()
}

/// The text of a page without its tags, entities as they are.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn awaiting(granted: &str) -> Progress {
    Progress::AwaitingConfirmation { account: account("583231", "octocat"), granted: ScopeSet::read(granted, ' ') }
}

#[test]
fn nothing_that_somebody_else_wrote_becomes_markup() {
    for hostile in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onfocus=alert(1) autofocus='",
        "</title></bdi></p><form action=https://evil.example>",
        "{{ 7 * 7 }}{% raw %}",
        "&lt;b&gt;&#x3c;",
        "a\0b\r\nSet-Cookie: c=d",
        "\u{202e}moc.elpmaxe\u{2066}",
    ] {
        let harmless = standings("harmless").into_iter().map(|progress| visit(progress, "harmless"));
        let attacked = standings(hostile).into_iter().map(|progress| visit(progress, hostile));
        for (harmless, mut attacked) in harmless.zip(attacked) {
            if let (Progress::Completed { connection: same, .. }, Progress::Completed { connection, .. }) =
                (&harmless.session.progress, &mut attacked.session.progress)
            {
                *connection = same.clone();
            }
            let (expected, page) = (page(&harmless), page(&attacked));
            assert_eq!(tags(&page), tags(&expected), "{hostile:?} in {}", attacked.session.progress.as_str());
            assert!(!page.contains(['\0', '\r', '\u{202e}', '\u{2066}']));
        }
    }
}

/// The tags of a page: the same whatever the text, or the text has become part of them.
fn tags(html: &str) -> Vec<&str> {
    html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()).collect()
}

#[test]
fn nobody_is_sent_to_where_no_way_leads_back_from() {
    for progress in [Progress::Pending, Progress::Opened] {
        let mut visit = visit(progress, "Example");
        let configured = Arc::get_mut(visit.configured.as_mut().unwrap()).unwrap();
        configured.provider.redirect.loopback_http = false;
        let page = page(&visit);
        assert!(!page.contains("<form") && !page.contains("login.p.example"), "{page}");
        let text = text(&page);
        for expected in [
            "Example would not send you back",
            "Example needs https even for localhost",
            "https://localhost:8717/callback/example",
            "Set `web.url` to https://localhost:8717 in grantd.yaml",
            "grantd provider show example",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}

#[test]
fn every_page_can_be_read_by_a_screen_reader_and_needs_no_script() {
    let mut pages: Vec<_> = standings("x").into_iter().map(|progress| page(&visit(progress, "x"))).collect();
    pages.extend(Problem::ALL.map(|problem| html(&problem.notice())));
    pages.push(html(&Home { providers: Vec::new() }));
    for page in pages {
        for once in ["<html lang=\"en\"", "<title>", "<main", "<h1>", "name=\"viewport\""] {
            assert_eq!(page.matches(once).count(), 1, "{once} in {page}");
        }
        for never in ["<script", " style=", "<style", "javascript:", " onclick", "OAuth", "token "] {
            assert!(!page.contains(never), "{never} in {page}");
        }
        assert!(!page.contains("src=\"http") && !page.contains("href=\"//"), "{page}");
    }
}

#[test]
fn the_first_page_says_who_asks_for_what_and_where_the_button_leads() {
    let page = page(&visit(Progress::Pending, "Example"));
    let text = text(&page);
    for said in ["Connect Example?", "issue-reader asks to use your", "WDJB-MJHT", "login.p.example", "mail"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(page.contains(r#"action="/connect/cn_AAAAAAAAAAAAAAAAAAAAAA/start""#));
    assert!(page.contains(r#"action="/connect/cn_AAAAAAAAAAAAAAAAAAAAAA/decline""#));
    assert_eq!(page.matches(r#"name="csrf" value="the-form-token""#).count(), 2);
}

#[test]
fn a_reconnect_names_the_account_that_was_connected() {
    let mut visit = visit(Progress::Opened, "Example");
    visit.previous_account = Some(account("1", "hubot"));
    let text = text(&page(&visit));
    assert!(text.contains("Connect Example again?"), "{text}");
    assert!(text.contains("hubot"), "{text}");
}

#[test]
fn what_was_not_granted_is_shown_apart() {
    let page = text(&page(&visit(awaiting("mail"), "Example")));
    let (granted, refused) = page.split_once("Asked for, and not granted").unwrap();
    assert!(granted.contains("mail") && granted.contains("octocat"), "{page}");
    assert!(refused.contains("&#60;b&#62;files"), "{page}");

    let all = visit(awaiting(&scopes().to_string()), "Example");
    assert!(!text(&self::page(&all)).contains("not granted"));
}

#[test]
fn a_different_account_is_pointed_out_and_the_same_one_under_a_new_name_is_not() {
    let mut visit = visit(awaiting("mail"), "Example");
    visit.previous_account = Some(account("999", "hubot"));
    let other = text(&page(&visit));
    assert!(other.contains("A different account. Until now hubot"), "{other}");
    assert!(other.contains("Connect this account too"), "{other}");
    visit.previous_account = Some(account("583231", "octocat-before"));
    assert!(!text(&page(&visit)).contains("different account"));
}

#[test]
fn another_browser_sees_neither_the_account_nor_a_button() {
    let mut visit = visit(awaiting("mail"), "Example");
    visit.same_browser = false;
    let page = page(&visit);
    assert!(page.contains("other browser"));
    assert!(!page.contains("octocat") && !page.contains("<form"), "{page}");
}

#[test]
fn a_refused_registration_shows_the_exact_address_to_register() {
    let page = page(&visit(Progress::Failed(ConnectFailure::Misconfigured), "Example"));
    assert!(page.contains(">http://localhost:8717/callback/example</code>"));
    assert!(page.contains("href=\"https://p.example/settings\""));
}

#[test]
fn a_link_to_the_settings_is_a_web_address_or_not_there() {
    let mut visit = visit(Progress::Failed(ConnectFailure::Misconfigured), "Example");
    let configured = std::sync::Arc::get_mut(visit.configured.as_mut().unwrap()).unwrap();
    configured.provider.docs_url = Some("javascript:alert(1)".parse().unwrap());
    assert!(!page(&visit).contains("javascript"));
}

#[test]
fn every_end_has_a_page_of_its_own_and_says_what_to_do() {
    let mut titles = std::collections::BTreeSet::new();
    for failure in ConnectFailure::ALL {
        let page = page(&visit(Progress::Failed(failure), "Example"));
        assert!(text(&page).contains("What to do now"), "{failure:?}");
        assert!(!page.contains("<form"), "{failure:?}");
        titles.insert(page.split("<h1>").nth(1).unwrap().split("</h1>").next().unwrap().to_owned());
    }
    assert_eq!(titles.len(), ConnectFailure::ALL.len());
}

#[test]
fn a_provider_that_was_taken_out_gets_no_button() {
    for progress in standings("x") {
        let mut visit = visit(progress, "Example");
        visit.configured = None;
        let page = page(&visit);
        assert!(!page.contains("/start\""), "{page}");
    }
}

#[test]
fn the_home_page_names_what_can_be_connected() {
    let home = Home { providers: vec![HomeProvider { id: "github".to_owned(), name: "<GitHub>".to_owned() }] };
    let page = html(&home);
    assert!(page.contains("grantd connect github"));
    assert!(page.contains("&#60;GitHub&#62;"));
}
