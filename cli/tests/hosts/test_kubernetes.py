"""The manifest against the schema of Kubernetes, and against what the server is: make test-kubernetes."""

import tomllib

import kubernetes_validate
import pytest
import yaml

from programs import ROOT

DOCUMENTS = list(yaml.safe_load_all((ROOT / "packaging/kubernetes.yaml").read_text()))
BY_KIND = {document["kind"]: document for document in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
@pytest.mark.parametrize("version", ["1.34", "1.37"])
def test_it_is_valid(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_a_mistake_is_found():
    wrong = {**BY_KIND["Service"], "spec": {"ports": [{"port": "http"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_its_parts_fit_each_other():
    pod = BY_KIND["Deployment"]["spec"]["template"]
    spec = pod["spec"]
    (container,) = spec["containers"]
    settings = tomllib.loads(BY_KIND["ConfigMap"]["data"]["guard.toml"])["serve"]
    (port,) = container["ports"]
    assert settings["listen"] == f"0.0.0.0:{port['containerPort']}"
    (service,) = BY_KIND["Service"]["spec"]["ports"]
    assert (service["targetPort"], service["port"]) == (port["name"], port["containerPort"])
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert BY_KIND[kind]["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert BY_KIND["Service"]["spec"]["selector"] == pod["metadata"]["labels"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > settings["drain_seconds"] + sleep
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
    assert container["args"][1] == f"{mounts['config']}/guard.toml" and container["args"][-1] == mounts["bundle"]
    assert all(key["secret_file"].startswith(mounts["keys"]) for key in settings["keys"])
    assert f"qwenguard:{version()}" == container["image"]


def version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
