//! Pages show the files that the tests use.

use crate::common::root;

#[test]
fn configurations_on_the_page_are_those_that_are_tested() {
    let page = std::fs::read_to_string(root().join("docs/hosts.md")).unwrap();
    let mut shown = 0;
    for block in page.split("```yaml file=").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let file = std::fs::read_to_string(root().join(name)).unwrap();
        assert!(text == file, "docs/hosts.md shows another {name}");
        shown += 1;
    }
    assert_eq!(shown, 3);
}
