//! A provider definition is checked by `grantd provider check`: good ones pass, and mistakes are told with their place.

use std::fs;
use std::path::Path;

use grantd::sandbox::{definition, public_definition};

use crate::bad_input::{names_place, run};
use crate::support::Home;

#[tokio::test]
async fn every_definition_that_comes_with_grantd_is_good() {
    let home = Home::new();
    let mut checked = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("providers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let output = run(&home, &["provider", "check", path.to_str().unwrap()]).await;
            assert_eq!((output.code, output.err.as_str()), (0, ""), "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 5, "{checked} definitions");
    let sandbox = "http://127.0.0.1:9417".parse().unwrap();
    for (name, text) in [("a.yaml", definition(&sandbox)), ("b.yaml", public_definition(&sandbox))] {
        home.write(name, &text);
        let output = run(&home, &["provider", "check", home.file(name).to_str().unwrap()]).await;
        assert_eq!(output.code, 0, "{output:?}");
    }
}

#[tokio::test]
async fn every_mistake_in_a_definition_is_told_with_its_line_and_column() {
    let home = Home::new();
    let good = definition(&"http://127.0.0.1:9417".parse().unwrap());
    let path = home.file("sandbox.yaml");
    for (from, to, expected) in [
        ("name: Sandbox", "naem: Sandbox", "unknown key `naem`"),
        ("name: Sandbox\n", "", "expected the key `name`"),
        ("name: Sandbox", "name: [Sandbox]", "expected text, found a list"),
        ("name: Sandbox", "name: \"Sand\\nbox\"", "one line of text"),
        ("name: Sandbox", "name: Sandbox\nname: Sandbox", "twice"),
        ("id: sandbox", "id: Sand Box", "is not allowed here"),
        ("id: sandbox", "id: ../sandbox", "is not allowed here"),
        ("http://127.0.0.1:9417/token", "http://sandbox.example/token", "expected https"),
        ("http://127.0.0.1:9417/token", "ftp://127.0.0.1/token", "https"),
        ("http://127.0.0.1:9417/token", "not an address", "expected"),
        ("http://127.0.0.1:9417/token", "https://{host}/token", "no variable `host`"),
        ("kind: confidential", "kind: secret", "expected `confidential` or `public`"),
        ("auth: basic", "auth: none", "the client is confidential"),
        ("rotation: single_use", "rotation: sometimes", "expected one of"),
        ("lead: 60", "lead: -60", "not negative"),
        ("lead: 60", "lead: soon", "expected a whole number"),
        ("ok_http: [200]", "ok_http: [20]", "from 100 to 599"),
        ("ok_http: [200]", "ok_http: []", "at least one status code"),
        ("  account_id: \"{/sub}\"", "  account_id: \"{sub}\"", "JSON Pointers"),
        ("{code: [access_denied], class: denied}", "{class: denied}", "else it matches every failure"),
        ("reconsent_params: {prompt: consent}", "reconsent_params: {state: x}", "grantd sets this one itself"),
        ("presets:", "variants:\n  a: {about: A}\npresets:", "expected `default_variant` beside it"),
        ("presets:", "code: \"os.system('x')\"\npresets:", "unknown key `code`"),
        ("presets:", "presets: &a\n", "anchor"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        home.write("sandbox.yaml", &text);
        let output = run(&home, &["provider", "check", path.to_str().unwrap()]).await;
        assert_eq!(output.code, 78, "{to}: {output:?}");
        assert_eq!(output.out, "", "{to}");
        assert!(names_place(&output.err, &path), "{to}: {}", output.err);
        assert!(output.err.contains(expected), "{to}: expected {expected}\n{}", output.err);
    }
}

#[tokio::test]
async fn a_file_that_is_no_definition_is_refused() {
    let home = Home::new();
    for text in ["", "# only a comment\n", "- a list\n", "{", "\u{feff}", "id: x\n---\nid: y\n"] {
        home.write("x.yaml", text);
        let output = run(&home, &["provider", "check", home.file("x.yaml").to_str().unwrap()]).await;
        assert_eq!(output.code, 78, "{text:?}: {output:?}");
        assert!(output.err.contains("x.yaml:"), "{text:?}: {}", output.err);
    }
    let missing = run(&home, &["provider", "check", home.file("none.yaml").to_str().unwrap()]).await;
    assert_eq!(missing.code, 78, "{missing:?}");
    assert!(missing.err.contains("none.yaml"), "{}", missing.err);
}
