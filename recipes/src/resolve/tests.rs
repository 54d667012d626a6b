use crate::system::Facts;
use crate::system::fake::Fake;
use crate::testing::Example;

fn ids(example: &Example) -> Vec<String> {
    let resolved = example.resolve(Fake::debian().host()).expect("valid");
    resolved.resources().map(|step| step.id.clone()).collect()
}

#[test]
fn when_and_for_each_decide_before_anything_runs() {
    let example = Example::recipe(
        "
inputs:
  names: { type: list, default: [a, b] }
  links: { type: map, default: { /etc/x: /y } }
resources:
  - file: { path: \"/etc/{{ item }}\", content: x }
    for_each: \"{{ inputs.names }}\"
  - symlink: { path: \"{{ item.key }}\", target: \"{{ item.value }}\" }
    for_each: \"{{ inputs.links }}\"
  - file: { path: /etc/debian, content: x }
    when: facts.os.family == \"debian\"
  - file: { path: /etc/fedora, content: x }
    when: facts.os.family == \"fedora\"
  - file: { path: /etc/c, content: x }
    name: call it {{ facts.arch }}
",
    );
    insta::assert_snapshot!(ids(&example).join("\n"), @"
        example: file /etc/a
        example: file /etc/b
        example: symlink /etc/x
        example: file /etc/debian
        example: call it x86_64
        ");
}

#[test]
fn after_changes_the_order() {
    let example = Example::resources(
        "
- file: { path: /etc/a, content: x }
  after: last
- file: { path: /etc/b, content: x }
  name: last
",
    );
    insta::assert_snapshot!(ids(&example).join("\n"), @"
        example: last
        example: file /etc/a
        ");
    let around = Example::resources(
        "
- file: { path: /etc/a, content: x }
  name: a
  after: b
- file: { path: /etc/b, content: x }
  name: b
  after: [a]
",
    );
    insta::assert_snapshot!(around.problems(), @"example/recipe.yaml:2:5: this comes, in the end, after itself");
    insta::assert_snapshot!(Example::resources("- file: { path: /a, content: x }\n  after: nope").problems(), @"example/recipe.yaml:3:12: no resource has the name `nope`; no name is valid here");
}

#[test]
fn contradictions_name_both_places() {
    let twice = "
- file: { path: /etc/a, content: x }
- symlink: { path: /etc/a, target: /b }
- sysctl: { name: one, settings: { a.b: 1 } }
- sysctl: { name: two, settings: { a.b: 2 } }
- service: { name: nginx, enabled: true }
- service: { name: nginx.service, enabled: false }
- line: { path: /etc/a, line: z }
";
    insta::assert_snapshot!(Example::resources(twice).problems(), @"
        example/recipe.yaml:3:5: the path `/etc/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:5:5: the sysctl `a.b` is decided twice, differently (first here: example/recipe.yaml:4:5)
        example/recipe.yaml:7:5: the unit `nginx.service` is decided twice, differently (first here: example/recipe.yaml:6:5)
        example/recipe.yaml:8:5: the line `z` of `/etc/a` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:2:5); put it where the file is decided
        ");
    let same = "
- package: { name: a }
- package: { name: a }
";
    assert_eq!(ids(&Example::resources(same)).len(), 2, "wanting the same thing twice is no contradiction");
}

#[test]
fn what_is_not_a_recipe_is_explained_all_at_once() {
    let problems = |text: &str| Example::recipe(text).problems();
    insta::assert_snapshot!(problems("resources: []\nresorces: []\ninputs: []\n"), @"
        example/recipe.yaml:2:1: unknown field `resorces` in a recipe; did you mean `resources`? valid are `description`, `inputs`, `vars`, `resources`, `handlers` and `on_error`
        example/recipe.yaml:3:9: expected a mapping of inputs, found a list of 0
        ");
    insta::assert_snapshot!(problems("description: x\n"), @"example/recipe.yaml:1:1: a recipe needs `resources`");
    insta::assert_snapshot!(problems("- file: {}\n"), @"example/recipe.yaml:1:1: expected a recipe, which is a mapping with `resources`, found a list of 1");
    insta::assert_snapshot!(Example::resources(
            "
- fiel: { path: /etc/a, content: x }
- file: { path: /etc/b, content: x }
  notfy: x
- file: { path: /etc/b, content: x }
  package: { name: x }
- file: { path: /etc/c, content: x }
  notify: nope
- when: true
- file: { path: /etc/c, content: x }
  notify: { a: b }
- text
"
        )
        .problems(), @"
        example/recipe.yaml:2:5: unknown kind `fiel`; did you mean `file`?
        example/recipe.yaml:4:5: unknown field `notfy` beside the kind; did you mean `notify`? valid are `name`, `when`, `for_each`, `notify`, `after`, `tags` and `register`
        example/recipe.yaml:6:5: a resource has one kind; this has `file` and `package`; start another resource with `-`
        example/recipe.yaml:9:5: this resource has no kind; such as `file: { path: /etc/motd, content: hi }`; `baker docs` lists all kinds
        example/recipe.yaml:11:13: expected a name or a list of names, found a mapping of 1
        example/recipe.yaml:12:5: expected a resource, such as `file: { path: /etc/motd, content: hi }`, found the string `text`
        ");
    insta::assert_snapshot!(problems("
resources:
  - file: { path: /etc/a, content: x }
    when: facts.os.id = 'x'
  - file: { path: /etc/b, content: x }
    for_each: 3
handlers:
  x: { file: { path: /etc/c, content: x }, for_each: [1] }
"), @"example/recipe.yaml:8:8: a handler has no `for_each`; handlers run once, in the order in which they are written");
}

#[test]
fn a_secret_in_a_name_is_refused() {
    let named = "- file: { path: /etc/a, content: a }\n  name: \"{{ secrets.password }}\"\n";
    let problems = Example::resources(named).secret("hunter2").problems();
    assert!(
        problems.contains("a secret may not be used in the `name`") && !problems.contains("hunter2"),
        "{problems}"
    );
}

#[test]
fn a_secret_in_a_list_is_found_in_each_element() {
    let example = Example::resources(
        "
- file: { path: \"/etc/{{ item.name }}\", content: \"{{ item.value }}\" }
  for_each: [ { name: a, value: \"{{ secrets.password }}\" }, { name: b, value: open } ]
",
    )
    .secret("hunter2");
    let mut fake = Fake::debian();
    example.settles(&mut fake);
    assert_eq!(fake.text("/etc/b").as_deref(), Some("open"));
    assert_eq!(fake.text("/run/bootstrap-agent/files/etc/a").as_deref(), Some("hunter2"));
}
