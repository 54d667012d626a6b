//! Tests of the language as a whole: variables, tags, included recipes, registered results, and what is done on
//! an error.

use crate::event::Event;
use crate::op::Op;
use crate::plan::{Guards, plan};
use crate::resolve::Selection;
use crate::run::Files;
use crate::system::Facts;
use crate::system::fake::Fake;
use crate::testing::Example;

fn ids(example: &Example) -> String {
    let resolved = example.resolve(Fake::debian().host()).expect("valid");
    resolved.resources().map(|step| step.id.clone()).collect::<Vec<_>>().join("\n")
}

/// What was written, run and done to units, in order.
fn done(fake: &Fake) -> String {
    let line = |op: &Op| match op {
        Op::WriteFile(write) => {
            format!("{} {:?}", write.path.display(), write.content)
        }
        Op::Run(command) => format!("run {command}"),
        Op::Unit { name, action } => format!("{action:?} {name}"),
        other => format!("{other:?}"),
    };
    fake.performed.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn variables_are_made_of_inputs_facts_and_the_variables_above_them() {
    let example = Example::recipe(
        "
inputs: { name: { type: string, default: app } }
vars:
  folder: /srv/{{ inputs.name }}
  files: { a: \"{{ vars.folder }}/a\", b: \"{{ vars.folder }}/b\" }
  debian: '{{ facts.os.id == \"debian\" }}'
resources:
  - file: { path: \"{{ item.value }}\", content: \"{{ vars.debian }}\" }
    for_each: \"{{ vars.files }}\"
  - template: { path: /etc/t, source: t.tera }
",
    )
    .template("t.tera", "{{ vars.folder }}");
    insta::assert_snapshot!(ids(&example), @"
    example: file /srv/app/a
    example: file /srv/app/b
    example: template /etc/t
    ");
    let problems = |text: &str| Example::recipe(text).problems();
    insta::assert_snapshot!(problems("vars: { a: x }\nresources:\n  - file: { path: /etc/a, content: \"{{ vars.b }}\" }\n"), @"example/recipe.yaml:3:40: `vars.b` is not defined; did you mean `a`? valid is `a`");
    insta::assert_snapshot!(problems("vars: { a: \"{{ vars.b }}\", b: x }\nresources: []\n"), @"example/recipe.yaml:1:16: `vars.b` is not defined; valid are `facts` and `inputs`");
    insta::assert_snapshot!(problems("vars: [a]\nresources: []\n"), @"example/recipe.yaml:1:7: expected a mapping of names to values, found a list of 1");
}

#[test]
fn a_variable_made_of_a_secret_is_one() {
    let text = "
vars: { url: \"postgres://app:{{ secrets.password }}@db\" }
resources:
  - file: { path: /etc/app, content: \"{{ vars.url }}\" }
";
    let example = Example::recipe(text).secret("hunter2");
    let plan = example.plan(&Fake::debian()).expect("a plan").to_string();
    assert!(plan.contains("secret") && !plan.contains("hunter2"), "{plan}");
    let leaky =
        Example::recipe(&text.replace("path: /etc/app", "path: \"/etc/{{ vars.url }}\"")).secret("hunter2");
    insta::assert_snapshot!(leaky.problems(), @"example/recipe.yaml:4:19: a secret may not be used in `path` of a `file`; it would be seen in plans and process lists; write it to a `file` or `template`");
}

const SITE: &str = "
inputs: { name: { type: string }, port: { type: integer, default: 80 } }
resources:
  - file: { path: \"/etc/sites/{{ inputs.name }}\", content: \"{{ inputs.port }}\" }
    notify: reload
handlers:
  reload: { command: { argv: \"reload {{ inputs.name }}\" } }
";

#[test]
fn a_recipe_is_included_in_its_place_as_often_as_it_is_wanted() {
    let example = Example::recipe(
        "
resources:
  - directory: { path: /etc/sites }
  - include: { site: { name: \"{{ item }}\" } }
    for_each: [a, b]
    when: item != \"c\"
    notify: tell
    name: sites
  - file: { path: /etc/after, content: x }
handlers:
  tell: { command: { argv: tell } }
",
    )
    .beside("site", SITE);
    insta::assert_snapshot!(ids(&example), @"
    example: directory /etc/sites
    site: file /etc/sites/a
    site (2): file /etc/sites/b
    example: file /etc/after
    ");
    let mut fake = Fake::debian();
    example.converge(&mut fake).expect("it converges");
    insta::assert_snapshot!(done(&fake), @r#"
    CreateDirectory { path: "/etc/sites", attributes: Attributes { owner: "root", group: "root", mode: 493 } }
    /etc/sites/a "80"
    run reload a
    /etc/sites/b "80"
    run reload b
    /etc/after "x"
    run tell
    "#);
    assert!(example.plan(&fake).expect("a plan").is_empty());
}

#[test]
fn what_is_wrong_with_an_included_recipe_is_named_where_it_is_written() {
    let problems =
        |include: &str| Example::resources(&format!("- include: {include}")).beside("site", SITE).problems();
    insta::assert_snapshot!(problems("site"), @"example/recipe.yaml:2:14: the input of `site` `name` is required");
    insta::assert_snapshot!(problems("{ site: { name: a, prot: 1 } }"), @"example/recipe.yaml:2:33: there is no input of `site` `prot`; did you mean `port`? valid are `name` and `port`");
    insta::assert_snapshot!(problems("{ site: { name: a, port: x } }"), @"example/recipe.yaml:2:39: `port`: expected a whole number, found the string `x`");
    insta::assert_snapshot!(problems("sites"), @"example/recipe.yaml:2:14: there is no recipe `sites` beside `example`");
    insta::assert_snapshot!(problems("{ site: {}, other: {} }"), @"example/recipe.yaml:2:14: one element is one recipe, `name: { input: value }`; start another with `-`");
    insta::assert_snapshot!(problems("[site]"), @"example/recipe.yaml:2:14: expected the name of a recipe, or `name: { input: value }`, found a list of 1");
    let twice =
        Example::resources("- include: { site: { name: a } }\n- include: { site: { name: a, port: 81 } }")
            .beside("site", SITE);
    insta::assert_snapshot!(twice.problems(), @"example/recipe.yaml:3:16: the path `/etc/sites/a` is decided twice, differently (first here: example/recipe.yaml:2:16)");
    let circle = Example::resources("- include: site").beside("site", "resources: [ { include: example } ]");
    insta::assert_snapshot!(circle.problems(), @"site/recipe.yaml:1:25: a recipe cannot include itself: `example` includes `site` includes `example`");
    let inside = Example::resources("- include: site").beside("site", "resources: [ { fiel: {} } ]");
    insta::assert_snapshot!(inside.problems().lines().next().unwrap_or_default().split(';').next().unwrap_or_default(), @"site/recipe.yaml:1:16: unknown kind `fiel`");
}

#[test]
fn an_input_that_is_given_a_secret_is_one() {
    let site = "
inputs: { token: { type: string, pattern: '[a-z0-9]+' } }
resources:
  - file: { path: /etc/token, content: \"{{ inputs.token }}\" }
";
    let including = |password: &str| {
        Example::resources("- include: { site: { token: \"{{ secrets.password }}\" } }").secret(password)
    };
    let mut fake = Fake::debian();
    let plan = including("hunter2").beside("site", site).settles(&mut fake);
    assert!(plan.contains("secret") && !plan.contains("hunter2"), "{plan}");
    insta::assert_snapshot!(including("Not Valid").beside("site", site).problems(), @"example/recipe.yaml:2:31: `token` does not match its `pattern`");
    let leaky = site.replace("path: /etc/token", "path: \"/etc/{{ inputs.token }}\"");
    insta::assert_snapshot!(including("hunter2").beside("site", &leaky).problems(), @"site/recipe.yaml:4:19: a secret may not be used in `path` of a `file`; it would be seen in plans and process lists; write it to a `file` or `template`");
}

#[test]
fn an_input_that_is_declared_a_secret_is_one_whatever_it_is_given() {
    let site = "
inputs: { token: { type: string, secret: true, enum: [open, sesame] } }
resources:
  - file: { path: /etc/token, content: \"{{ inputs.token }}\" }
";
    let including = |token: &str| {
        Example::resources(&format!("- include: {{ site: {{ token: {token} }} }}")).beside("site", site)
    };
    let plan = including("sesame").plan(&Fake::debian()).expect("a plan").to_string();
    assert!(plan.contains("secret") && !plan.contains("sesame"), "{plan}");
    insta::assert_snapshot!(including("simsalabim").problems(), @"example/recipe.yaml:2:31: `token` is none of the values it may have");
    let problems =
        |input: &str| Example::recipe(&format!("inputs: {{ a: {input} }}\nresources: []")).problems();
    insta::assert_snapshot!(problems("{ type: string, secret: true, default: x }"), @"example/recipe.yaml:1:53: the input `a` is secret, so it has no `default`; what is written in a recipe is no secret; it is given by an `include` at boot");
    insta::assert_snapshot!(problems("{ type: integer, secret: true }"), @"example/recipe.yaml:1:31: `secret` does not go with `type: integer`; it goes with `type: string`");
}

#[test]
fn tags_select_resources_and_go_from_an_include_to_what_is_in_it() {
    let example = Example::recipe(
        "
resources:
  - file: { path: /etc/a, content: x }
    tags: [config, slow]
  - file: { path: /etc/b, content: x }
  - include: { site: { name: a } }
    tags: config
",
    )
    .beside("site", SITE);
    let selected = |tags: &[&str], skip_tags: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let mut resolved = example.resolve(Fake::debian().host()).expect("valid");
        let selected = resolved.select(&Selection { tags: words(tags), skip_tags: words(skip_tags) });
        selected.map(|()| resolved.resources().map(|step| step.id.clone()).collect::<Vec<_>>().join(", "))
    };
    insta::assert_snapshot!(selected(&[], &[]).expect("known"), @"example: file /etc/a, example: file /etc/b, site: file /etc/sites/a");
    insta::assert_snapshot!(selected(&["config"], &[]).expect("known"), @"example: file /etc/a, site: file /etc/sites/a");
    insta::assert_snapshot!(selected(&["config"], &["slow"]).expect("known"), @"site: file /etc/sites/a");
    insta::assert_snapshot!(selected(&[], &["config"]).expect("known"), @"example: file /etc/b");
    insta::assert_snapshot!(selected(&["confg"], &[]).expect_err("unknown").located(), @"no resource has the tag `confg`; did you mean `config`? valid are `config` and `slow`");
    insta::assert_snapshot!(Example::resources("- file: { path: /etc/a, content: x }\n  tags: a b").problems(), @"example/recipe.yaml:3:11: `a b` is not a tag; a tag is made of letters, digits, `_`, `-` and `.`");
}

const REGISTERED: &str = "
resources:
  - command: { argv: hostname --fqdn }
    register: host
  - command: { argv: \"lookup {{ registered.host.stdout }}\" }
    register: address
  - file: { path: /etc/address, content: \"{{ registered.address.stdout }}\" }
  - template: { path: /etc/lines, source: lines.tera }
";

fn registered() -> (Example, Fake) {
    let mut fake = Fake::debian();
    fake.let_print(&["hostname", "--fqdn"], "web.example\n");
    fake.let_print(&["lookup", "web.example"], "192.0.2.1\n192.0.2.2\n");
    let lines = "{% for line in registered.address.stdout_lines %}[{{ line }}]{% endfor %}";
    (Example::recipe(REGISTERED).template("lines.tera", lines), fake)
}

#[test]
fn what_a_command_prints_is_known_to_what_comes_after_it() {
    let (example, mut fake) = registered();
    example.converge(&mut fake).expect("it converges");
    insta::assert_snapshot!(done(&fake), @r#"
    /etc/address "192.0.2.1\n192.0.2.2"
    /etc/lines "[192.0.2.1][192.0.2.2]"
    "#);
    let resolved = example.resolve(fake.host()).expect("valid");
    assert!(plan(&resolved, &fake, Guards::Run).expect("a plan").is_empty(), "it settles");
    // It is asked again, and what it prints then counts.
    fake.let_print(&["lookup", "web.example"], "192.0.2.3\n");
    example.converge(&mut fake).expect("it converges");
    assert_eq!(fake.text("/etc/address").as_deref(), Some("192.0.2.3"));
}

#[test]
fn what_depends_on_a_command_is_unknown_as_long_as_something_comes_before_it() {
    let (example, fake) = registered();
    insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @r"
    example: file /etc/address (derived)
      + create /etc/address (root:root 0644), with content known after apply
          --- /dev/null
          +++ /etc/address
          @@ -0,0 +1 @@
          +(known after apply)
          \ No newline at end of file
    example: template /etc/lines (derived)
      + create /etc/lines (root:root 0644), with content known after apply
          --- /dev/null
          +++ /etc/lines
          @@ -0,0 +1 @@
          +[(known after apply)]
          \ No newline at end of file
    Plan: 2 to change, 2 unchanged.
    Of these 0 observed, 2 derived, 2 assumed.
    ");
    let resolved = example.resolve(fake.host()).expect("valid");
    insta::assert_snapshot!(plan(&resolved, &fake, Guards::Run).expect("a plan"), @r"
    example: file /etc/address
      + create /etc/address (root:root 0644, 19 bytes)
          --- /dev/null
          +++ /etc/address
          @@ -0,0 +1,2 @@
          +192.0.2.1
          +192.0.2.2
          \ No newline at end of file
    example: template /etc/lines (derived)
      + create /etc/lines (root:root 0644), with content known after apply
          --- /dev/null
          +++ /etc/lines
          @@ -0,0 +1 @@
          +[(known after apply)]
          \ No newline at end of file
    Plan: 2 to change, 2 unchanged.
    Of these 3 observed, 1 derived, 0 assumed.
    ");
}

#[test]
fn a_registered_command_that_fails_ends_the_run_in_its_place() {
    let (example, _) = registered();
    insta::assert_snapshot!(example.fails(&mut Fake::debian()), @"example: command hostname --fqdn: failed to read what `hostname --fqdn` prints: it ended with 1");
}

#[test]
fn results_are_used_only_where_they_can_be() {
    let problems = |more: &str| {
        Example::resources(&format!("- command: {{ argv: id }}\n  register: me\n{more}")).problems()
    };
    let file = "- file: { path: /etc/a, content: \"{{ registered.me.stdout }}\" }";
    insta::assert_snapshot!(problems(&format!("{file}\n  when: registered.me.stdout == \"root\"")), @"example/recipe.yaml:5:11: `registered` may not be used in `when`; that is decided before anything runs, from inputs and facts");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: x }\n  for_each: \"{{ registered.me.stdout_lines }}\""), @"example/recipe.yaml:5:15: `registered` may not be used in `for_each`; that is decided before anything runs, from inputs and facts");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: \"{{ registered.you.stdout }}\" }"), @"example/recipe.yaml:4:36: `registered.you` is not defined; valid is `me`");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: x, mdoe: \"{{ registered.me.stdout }}\" }").split(';').next().unwrap_or_default(), @"example/recipe.yaml:4:39: unknown field `mdoe` in `file`");
    insta::assert_snapshot!(problems("- file: { path: a, content: \"{{ registered.me.stdout }}\" }"), @"example/recipe.yaml:4:11: the path `a` does not start with `/`");
    insta::assert_snapshot!(problems("- command: { argv: id }\n  register: me"), @"example/recipe.yaml:5:15: `me` is registered twice");
    insta::assert_snapshot!(problems("- command: { argv: id, creates: /x }\n  register: b"), @"example/recipe.yaml:5:15: a registered command has no `creates`, `unless` or `onlyif`; it is run whenever its result is needed, so it only looks; what it would make is for a command before it");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: x }\n  register: b"), @"example/recipe.yaml:5:15: a `file` prints nothing that could be registered; `register` goes with `command` and `script`");
    insta::assert_snapshot!(problems("- command: { argv: id }\n  register: b-c"), @"example/recipe.yaml:5:15: `b-c` cannot be a name in templates; it starts with a letter and goes on with letters, digits and `_`");
    insta::assert_snapshot!(problems("- command: { argv: id }\n  register: b\n  for_each: [a]"), @"example/recipe.yaml:5:15: `register` does not go with `for_each`; a name stands for the result of one command");
    let early = format!("{file}\n- command: {{ argv: id }}\n  register: me");
    insta::assert_snapshot!(Example::resources(&early).problems(), @"example/recipe.yaml:2:36: `registered.me` is not known here; what asks for it comes after its command, under the same `when`");
}

#[test]
fn a_result_may_stand_where_what_stands_for_it_would_not_be_valid() {
    let mut fake = Fake::debian();
    fake.let_print(&["mode"], "0600\n");
    let example = Example::resources(
        "- command: { argv: mode }\n  register: mode\n- file: { path: /etc/a, content: x, mode: \"{{ registered.mode.stdout }}\" }",
    );
    example.converge(&mut fake).expect("it converges");
    fake.let_print(&["mode"], "rw\n");
    insta::assert_snapshot!(example.fails(&mut fake), @r#"example: file (known after apply): example/recipe.yaml:4:45: expected a mode as a string of octal digits, such as "0644", found the string `rw`"#);
}

#[test]
fn on_an_error_what_the_recipe_wants_is_done_and_the_run_fails_with_its_own_error() {
    let example = Example::recipe(
        "
resources:
  - include: inner
on_error:
  - command: { argv: tell somebody }
",
    )
    .beside(
        "inner",
        "
resources:
  - file: { path: /etc/a, content: x }
  - file: { path: /etc/b/c, content: x }
on_error:
  - absent: { path: /etc/a }
  - file: { path: /etc/b/d, content: x }
",
    );
    let mut fake = Fake::debian();
    let (result, events) = example.run(&mut fake, Files::InTurn);
    assert_eq!(result.expect_err("it fails").resource.as_deref(), Some("inner: file /etc/b/c"));
    insta::assert_snapshot!(done(&fake), @r#"
    /etc/a "x"
    Remove { path: "/etc/a", directory: false }
    run tell somebody
    "#);
    let told: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Output { line, .. } => Some(line.as_str()),
            _ => None,
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"failed: the directory `/etc/b` does not exist");
    fake.performed.clear();
    Example::recipe("resources: []\non_error: [ { command: { argv: x } } ]")
        .converge(&mut fake)
        .expect("it converges");
    assert_eq!(done(&fake), "", "nothing failed");
    insta::assert_snapshot!(Example::recipe("resources: []\non_error: [ { reboot: {} } ]").problems(), @"example/recipe.yaml:2:15: a host is not booted anew on an error; the run would begin again, and fail again");
    insta::assert_snapshot!(Example::recipe("resources: []\non_error: [ { command: { argv: x }, notify: a } ]").problems(), @"
    example/recipe.yaml:2:15: what is done on an error has no `notify`; it is done in the order in which it is written, and the run then ends
    ");
}
