use serde_json::json;

use super::*;
use crate::load;

fn source(name: &str, text: &str) -> Arc<Source> {
    Arc::new(Source { name: name.into(), text: text.into() })
}

fn scope() -> Scope {
    let Json::Object(values) = json!({
        "inputs": { "port": 22, "allow": [ "a", "b" ], "title": "Hi" },
        "facts": { "os": { "id": "debian", "version": "12" } },
    }) else {
        unreachable!("an object")
    };
    Scope::new(values)
}

fn node(text: &str) -> Node {
    load::parse(&source("t.yaml", text)).expect("valid YAML")
}

#[test]
fn one_reference_keeps_its_type_and_everything_else_is_text() {
    let rendered = render(
        &node("{ a: '{{ inputs.port }}', b: '{{ inputs.allow }}', c: 'x{{ inputs.port }}', d: plain }"),
        &scope(),
    )
    .expect("valid");
    assert_eq!(rendered.to_json(), json!({ "a": 22, "b": ["a", "b"], "c": "x22", "d": "plain" }));
}

#[test]
fn what_is_not_defined_is_named_at_its_place() {
    let problem_of = |text: &str| render(&node(text), &scope()).expect_err("not defined").located();
    insta::assert_snapshot!(problem_of("a: '{{ inputs.prot }}'"), @"t.yaml:1:8: `inputs.prot` is not defined; did you mean `port`? valid are `port`, `allow` and `title`");
    insta::assert_snapshot!(problem_of("a: '{{ input.port }}'"), @"t.yaml:1:8: `input.port` is not defined; did you mean `inputs`? valid are `inputs` and `facts`");
    insta::assert_snapshot!(problem_of("a: 'x {{ nothing }}'"), @"t.yaml:1:10: variable `nothing` is not defined. Available variables: facts, inputs");
    insta::assert_snapshot!(problem_of("a: '{% if inputs.prot %}x{% endif %}'"), @"t.yaml:1:11: `inputs.prot` is not defined; did you mean `port`? valid are `port`, `allow` and `title`");
    insta::assert_snapshot!(problem_of("a: 'x {{ facts.os.name }}'"), @"t.yaml:1:10: `facts.os.name` is not defined; valid are `id` and `version`");
    insta::assert_snapshot!(problem_of("a: 'x {{ inputs.port'"), @"t.yaml:1:17: unexpected end of input");
    insta::assert_snapshot!(problem_of("a: '{{ inputs.title | shuot }}'"), @"t.yaml:1:5: unknown filter `shuot`");
    insta::assert_snapshot!(problem_of("a: '{% if facts.live %}x{% endif %}'"), @"t.yaml:1:11: `facts.live` is known only on a live host; hosts that boot from an image differ in it: use it in a boot recipe, for what the bake need not know");
    assert!(render(&node("a: '{{ \"inputs.prot\" }}'"), &scope()).is_ok(), "text in quotes is text");
}

#[test]
fn conditions_are_decided_or_explained() {
    let decide = |text: &str| condition(&node(text), &scope());
    assert_eq!(decide("facts.os.id == 'debian' and inputs.port == 22"), Ok(true));
    assert_eq!(decide("facts.os.version == '13'"), Ok(false));
    assert_eq!(decide("false"), Ok(false));
    insta::assert_snapshot!(decide("facts.os.nmae == 'x'").expect_err("not defined").located(), @"t.yaml:1:1: `facts.os.nmae` is not defined; valid are `id` and `version`");
    insta::assert_snapshot!(decide("facts.os.id = 'x'").expect_err("not valid").located(), @r#"t.yaml:1:1: found `=` but expected %}; a condition is an expression without braces, such as `facts.os.id == "debian"`"#);
    insta::assert_snapshot!(decide("[x]").expect_err("not valid").located(), @"t.yaml:1:1: expected a condition, found a list of 1");
}

#[test]
fn template_files_point_into_themselves() {
    let files = |text: &str| {
        Templates::parse(BTreeMap::from([
            ("main.tera".to_owned(), source("templates/main.tera", text)),
            ("part.tera".to_owned(), source("templates/part.tera", "port={{ inputs.port }}\n{{ nope }}")),
        ]))
    };
    insta::assert_snapshot!(files("{{ inputs.port | nope }}").expect_err("unknown filter").located(), @"templates/main.tera:1:18: unknown filter `nope`");
    let problem_of = |text: &str| {
        files(text).and_then(|files| files.render("main.tera", &scope())).expect_err("a problem").located()
    };
    insta::assert_snapshot!(problem_of("a\nlisten {{ inputs.prot }};"), @"templates/main.tera:2:11: `inputs.prot` is not defined; did you mean `port`? valid are `port`, `allow` and `title`");
    insta::assert_snapshot!(problem_of("a\n{% if x %}"), @"templates/main.tera:2:9: unexpected end of input");
    insta::assert_snapshot!(problem_of("{% include \"part.tera\" %}"), @"templates/part.tera:2:4: variable `nope` is not defined. Available variables: facts, inputs");
    insta::assert_snapshot!(problem_of("{% include \"other.tera\" %}"), @"templates/main.tera:1:12: unknown template `other.tera`");
    let rendered = files("<{{ inputs.title }}>\n").and_then(|files| files.render("main.tera", &scope()));
    assert_eq!(rendered, Ok("<Hi>\n".to_owned()), "nothing is escaped");
}

#[test]
fn a_secret_shows_as_a_difference_under_the_mask() {
    let Json::Object(values) = json!({ "secrets": { "db": { "password": "hunter2" } } }) else {
        unreachable!("an object")
    };
    let Json::Object(masked) = json!({ "secrets": { "db": { "password": "(secret)" } } }) else {
        unreachable!("an object")
    };
    let scope = scope().with_secrets(&values, &masked);
    let mask = scope.masked().expect("there are secrets");
    let open = node("a: 'x{{ inputs.port }}'");
    assert_eq!(render(&open, &scope), render(&open, mask));
    let secret = node("a: 'x{{ secrets.db.password }}'");
    assert_ne!(render(&secret, &scope), render(&secret, mask));
}
