//! Pages show the files that the tests use, and what is in packaging is what the program takes.

use crate::{client, common::root, server::Server};

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

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The words of a list as YAML and JSON write it, after this name.
fn list(text: &str, name: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
    let words = line.trim().strip_prefix('[').unwrap().strip_suffix(']').unwrap();
    words.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
}

/// What the manifest adds to the command of the image is a command line that serves.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_takes_what_the_manifest_says() {
    let (image, manifest) = (read("packaging/serve/Containerfile"), read("packaging/kubernetes.yaml"));
    let entry = list(&image, "ENTRYPOINT");
    assert_eq!(entry[1..], ["serve", "--listen", "0.0.0.0:8600"]);
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("guard.toml"), folder.path().join("gateway"));
    let (_, settings) = manifest.split_once("guard.toml: |\n").unwrap();
    let (settings, _) = settings.split_once("\n---").unwrap();
    std::fs::write(&key, "s3cret").unwrap();
    std::fs::write(
        &file,
        settings.replace("/run/secrets/qwenguard/gateway", &key.to_str().unwrap().replace('\\', "/")),
    )
    .unwrap();
    let place = |argument: String| match &*argument {
        "/etc/qwenguard/guard.toml" => file.to_str().unwrap().to_owned(),
        "/bundle" => "export/nano/bundle".to_owned(),
        _ => argument,
    };
    let arguments: Vec<String> = list(&manifest, "args:").into_iter().map(place).collect();
    let server = Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let ask = async |key: &str| {
        let request = client().get(format!("{}/info", server.url)).header("x-api-key", key);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask("s3cret").await, ask("other").await), (200, 401));
}
