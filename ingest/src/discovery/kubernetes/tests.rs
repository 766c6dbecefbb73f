use axum::extract::Request;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::config::yaml::{self, FromYaml};

/// A cluster with one service of one pod, on one node.
fn cluster(path: &str) -> Option<serde_json::Value> {
    let meta =
        |name: &str| json!({"name": name, "namespace": "ns", "labels": {"app/x": name}, "annotations": {"a": "1"}});
    let pod = json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"},
                     "annotations": {"prometheus.io/scrape": "true"},
                     "ownerReferences": [{"kind": "ReplicaSet", "name": "rs", "controller": true}]},
        "spec": {"nodeName": "n",
                 "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"},
                                                                       {"name": "m", "containerPort": 81}]},
                                {"name": "bare", "image": "j"}]},
        "status": {"podIP": "10.0.0.1", "phase": "Running", "hostIP": "1.1.1.1",
                   "conditions": [{"type": "Ready", "status": "True"}],
                   "containerStatuses": [{"name": "c", "containerID": "docker://1"}]}
    });
    let pending = json!({"metadata": {"name": "pending", "namespace": "ns"}, "spec": {"containers": []}, "status": {}});
    let items = match path {
        "/api/v1/pods" | "/api/v1/namespaces/ns/pods" => vec![pod, pending],
        "/api/v1/services" => vec![json!({"metadata": meta("svc"),
            "spec": {"type": "ClusterIP", "clusterIP": "10.1.0.1", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}})],
        "/api/v1/endpoints" => vec![json!({"metadata": {"name": "svc", "namespace": "ns"}, "subsets": [{
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "addresses": [{"ip": "10.0.0.1", "nodeName": "n", "targetRef": {"kind": "Pod", "name": "p", "namespace": "ns"}}],
            "notReadyAddresses": [{"ip": "10.0.0.9"}]}]})],
        "/apis/discovery.k8s.io/v1/endpointslices" => vec![json!({
            "metadata": {"name": "svc-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "svc"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true},
                           "targetRef": {"kind": "Pod", "name": "p", "namespace": "ns"}}]})],
        "/api/v1/nodes" => {
            vec![json!({"metadata": {"name": "n", "labels": {"zone": "z"}}, "spec": {"providerID": "p://n"},
            "status": {"addresses": [{"type": "Hostname", "address": "n.local"}, {"type": "InternalIP", "address": "1.1.1.1"}],
                       "conditions": [{"type": "DiskPressure", "status": "False"}],
                       "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}})]
        }
        "/apis/networking.k8s.io/v1/ingresses" => vec![json!({"metadata": meta("ing"),
            "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.example.org"]}],
                     "rules": [{"host": "a.example.org", "http": {"paths": [{"path": "/x"}, {}]}}, {"host": "b.c"}]}})],
        "/api/v1/namespaces" => vec![json!({"metadata": {"name": "ns", "labels": {"team": "t"}}})],
        "/apis/apps/v1/replicasets" => vec![json!({"metadata": {"name": "rs", "namespace": "ns",
            "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": true}]}})],
        _ => return None,
    };
    Some(json!({"items": items, "metadata": {}}))
}

async fn serve() -> String {
    let app = axum::Router::new().fallback(|request: Request| async move {
        // Objects come one to a page, to see that all pages are asked for.
        let query = request.uri().query().unwrap_or_default();
        let at: usize =
            query.split("continue=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok()).unwrap_or(0);
        let Some(mut whole) = cluster(request.uri().path()) else {
            return (axum::http::StatusCode::FORBIDDEN, [("content-type", "application/json")], "{}".to_owned());
        };
        let items = whole["items"].as_array().unwrap().clone();
        whole["items"] = json!(items.get(at).into_iter().collect::<Vec<_>>());
        if at + 1 < items.len() {
            whole["metadata"]["continue"] = json!((at + 1).to_string());
        }
        (axum::http::StatusCode::OK, [("content-type", "application/json")], whole.to_string())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

async fn groups(role: &str, more: &str) -> Vec<TargetGroup> {
    let server = serve().await;
    let text = format!("{{api_server: '{server}', role: {role}{more}}}");
    let config = KubernetesSdConfig::from_yaml(&yaml::parse(&text).unwrap()).unwrap();
    KubernetesSource::new(&config).unwrap().groups().await.unwrap()
}

/// Checks addresses, and some labels of the first target.
fn check(groups: &[TargetGroup], addresses: &[&str], labels: &[(&str, &str)]) {
    let found: Vec<&str> = groups.iter().flat_map(|group| &group.targets).map(String::as_str).collect();
    assert_eq!(found, addresses);
    for (name, value) in labels {
        let found = groups[0].labels.get(&format!("__meta_kubernetes_{name}"));
        assert_eq!(found.map(String::as_str), Some(*value), "{name} in {:?}", groups[0].labels);
    }
}

#[tokio::test]
async fn pods() {
    let expected = [
        ("namespace", "ns"),
        ("pod_name", "p"),
        ("pod_ip", "10.0.0.1"),
        ("pod_ready", "true"),
        ("pod_phase", "Running"),
        ("pod_uid", "u"),
        ("pod_label_app", "web"),
        ("pod_labelpresent_app", "true"),
        ("pod_annotation_prometheus_io_scrape", "true"),
        ("pod_controller_kind", "ReplicaSet"),
        ("pod_container_name", "c"),
        ("pod_container_id", "docker://1"),
        ("pod_container_port_number", "80"),
        ("pod_container_init", "false"),
    ];
    let addresses = ["10.0.0.1:80", "10.0.0.1:81", "10.0.0.1"];
    check(&groups("pod", ", namespaces: {names: [ns]}").await, &addresses, &expected);
    let attached = groups("pod", ", attach_metadata: {node: true, namespace: true, deployment: true}").await;
    let more = [("node_label_zone", "z"), ("namespace_label_team", "t"), ("pod_deployment_name", "web")];
    check(&attached, &addresses, &more);
}

#[tokio::test]
async fn services_and_their_endpoints() {
    let expected = [
        ("service_name", "svc"),
        ("service_label_app_x", "svc"),
        ("service_cluster_ip", "10.1.0.1"),
        ("service_type", "ClusterIP"),
    ];
    check(&groups("service", "").await, &["svc.ns.svc:8080"], &expected);
    let expected = [
        ("endpoints_name", "svc"),
        ("service_name", "svc"),
        ("endpoint_ready", "true"),
        ("endpoint_port_name", "http"),
        ("endpoint_address_target_name", "p"),
        ("pod_name", "p"),
        ("pod_container_name", "c"),
        ("pod_container_port_name", "http"),
    ];
    // The last one is the pod's port that is no endpoint.
    check(&groups("endpoints", "").await, &["10.0.0.1:80", "10.0.0.9:80", "10.0.0.1:81"], &expected);
    let expected = [
        ("endpointslice_name", "svc-1"),
        ("endpointslice_address_type", "IPv4"),
        ("endpointslice_port", "80"),
        ("endpointslice_endpoint_conditions_ready", "true"),
        ("service_name", "svc"),
        ("pod_container_name", "c"),
    ];
    check(&groups("endpointslice", "").await, &["10.0.0.1:80", "10.0.0.1:81"], &expected);
}

#[tokio::test]
async fn nodes_and_ingresses() {
    let nodes = groups("node", "").await;
    let expected = [
        ("node_name", "n"),
        ("node_provider_id", "p://n"),
        ("node_condition_diskpressure", "false"),
        ("node_address_Hostname", "n.local"),
        ("node_label_zone", "z"),
    ];
    check(&nodes, &["1.1.1.1:10250"], &expected);
    assert_eq!(nodes[0].labels["instance"], "n");
    let ingresses = groups("ingress", "").await;
    let expected =
        [("ingress_scheme", "https"), ("ingress_path", "/x"), ("ingress_class_name", "nginx"), ("ingress_name", "ing")];
    check(&ingresses, &["a.example.org", "a.example.org", "b.c"], &expected);
    assert_eq!(ingresses[2].labels["__meta_kubernetes_ingress_scheme"], "http");
}

#[tokio::test]
async fn what_cannot_be_listed_stays() {
    let server = serve().await;
    let text = format!("{{api_server: '{server}', role: pod, attach_metadata: {{cronjob: true}}}}");
    let config = KubernetesSdConfig::from_yaml(&yaml::parse(&text).unwrap()).unwrap();
    let mut source = KubernetesSource::new(&config).unwrap();
    assert_eq!(source.groups().await.unwrap_err().to_string(), "server returned HTTP status 403 Forbidden");
    source.refresh = std::time::Duration::from_millis(20);
    let (groups, receiver) = watch::channel(Some(vec![TargetGroup::default()]));
    let task = tokio::spawn(source.run(Found { groups, changed: watch::channel(0).0 }));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(receiver.borrow().as_deref(), Some(&[TargetGroup::default()][..]));
    task.abort();
}
