//! From objects to target groups, with the labels that Prometheus gives them.
//!
//! Source: `discovery/kubernetes`, Prometheus v3.

use std::collections::BTreeMap;

use serde_json::Value;

use super::objects::{Kind, Objects, controller, list, name, namespace, text, texts};
use crate::config::{KubernetesRole, KubernetesSdConfig, TargetGroup};
use crate::discovery::consul::{join_host_port, sanitize};

type Labels = BTreeMap<String, String>;

/// The targets of a section's role.
pub(super) fn groups(config: &KubernetesSdConfig, objects: &Objects) -> Vec<TargetGroup> {
    let builder = Builder { config, objects };
    let mut groups = Vec::new();
    let kind = match config.role {
        KubernetesRole::Node => Kind::Node,
        KubernetesRole::Pod => Kind::Pod,
        KubernetesRole::Service => Kind::Service,
        KubernetesRole::Endpoints => Kind::Endpoints,
        KubernetesRole::EndpointSlice => Kind::EndpointSlice,
        KubernetesRole::Ingress => Kind::Ingress,
    };
    for object in objects.all(kind) {
        let (labels, targets) = match config.role {
            KubernetesRole::Node => builder.node(object),
            KubernetesRole::Pod => builder.pod(object),
            KubernetesRole::Service => builder.service(object),
            KubernetesRole::Endpoints => builder.endpoints(object),
            KubernetesRole::EndpointSlice => builder.endpoint_slice(object),
            KubernetesRole::Ingress => builder.ingress(object),
        };
        let source = format!("{}/{}/{}", config.role.name(), namespace(object), name(object));
        groups.extend(targets.into_iter().enumerate().map(|(index, target)| {
            let mut all = labels.clone();
            all.extend(target.labels);
            TargetGroup { source: format!("{source}/{index}"), targets: vec![target.address], labels: all }
        }));
    }
    groups
}

/// An address with labels of its own.
struct Target {
    address: String,
    labels: Labels,
}

struct Builder<'a> {
    config: &'a KubernetesSdConfig,
    objects: &'a Objects,
}

/// A pod's containers, the initial ones last and marked.
fn containers(pod: &Value) -> impl Iterator<Item = (&Value, bool)> {
    let main = list(pod, "/spec/containers").iter().map(|container| (container, false));
    main.chain(list(pod, "/spec/initContainers").iter().map(|container| (container, true)))
}

fn set(labels: &mut Labels, name: &str, value: impl Into<String>) {
    labels.insert(format!("__meta_kubernetes_{name}"), value.into());
}

fn number(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default().to_string()
}

/// Sets `label` where there is something at `pointer`.
fn set_if_there(labels: &mut Labels, label: &str, object: &Value, pointer: &str) {
    match object.pointer(pointer) {
        Some(Value::String(text)) => set(labels, label, text),
        Some(Value::Bool(flag)) => set(labels, label, flag.to_string()),
        Some(Value::Number(number)) => set(labels, label, number.to_string()),
        _ => {}
    }
}

/// Name, labels and annotations of an object.
fn add_metadata(labels: &mut Labels, object: &Value, role: &str) {
    set(labels, &format!("{role}_name"), name(object));
    for (pointer, what) in [("/metadata/labels", "label"), ("/metadata/annotations", "annotation")] {
        for (key, value) in texts(object, pointer) {
            let key = sanitize(key);
            set(labels, &format!("{role}_{what}_{key}"), value);
            set(labels, &format!("{role}_{what}present_{key}"), "true");
        }
    }
}

fn container_labels(labels: &mut Labels, container: &Value, init: bool) {
    set(labels, "pod_container_name", text(container, "/name"));
    set(labels, "pod_container_image", text(container, "/image"));
    set(labels, "pod_container_init", init.to_string());
}

fn container_port_labels(labels: &mut Labels, port: &Value) {
    set(labels, "pod_container_port_name", text(port, "/name"));
    set(labels, "pod_container_port_number", number(port, "/containerPort"));
    set(labels, "pod_container_port_protocol", protocol(port));
}

/// What the API server fills in where nothing is written.
fn protocol(port: &Value) -> &str {
    match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

impl Builder<'_> {
    fn node(&self, node: &Value) -> (Labels, Vec<Target>) {
        let mut labels = Labels::new();
        set(&mut labels, "node_provider_id", text(node, "/spec/providerID"));
        for condition in list(node, "/status/conditions") {
            let kind = sanitize(&text(condition, "/type").to_lowercase());
            set(&mut labels, &format!("node_condition_{kind}"), text(condition, "/status").to_lowercase());
        }
        add_metadata(&mut labels, node, "node");
        let addresses = list(node, "/status/addresses");
        let first = |kind: &str| addresses.iter().find(|address| text(address, "/type") == kind);
        let kinds = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
        let Some(address) = kinds.iter().find_map(|kind| first(kind)) else {
            tracing::warn!(node = name(node), "No node address found");
            return (labels, Vec::new());
        };
        let port = number(node, "/status/daemonEndpoints/kubeletEndpoint/Port");
        let mut own = Labels::from([("instance".to_owned(), name(node).to_owned())]);
        for address in addresses.iter().rev() {
            let kind = sanitize(text(address, "/type"));
            set(&mut own, &format!("node_address_{kind}"), text(address, "/address"));
        }
        let address = join_host_port(text(address, "/address"), port);
        (labels, vec![Target { address, labels: own }])
    }

    fn pod_labels(&self, pod: &Value) -> Labels {
        let mut labels = Labels::new();
        let ready = list(pod, "/status/conditions").iter().find(|condition| text(condition, "/type") == "Ready");
        let ready = ready.map_or("unknown".to_owned(), |condition| text(condition, "/status").to_lowercase());
        set(&mut labels, "pod_ip", text(pod, "/status/podIP"));
        set(&mut labels, "pod_ready", ready);
        set(&mut labels, "pod_phase", text(pod, "/status/phase"));
        set(&mut labels, "pod_node_name", text(pod, "/spec/nodeName"));
        set(&mut labels, "pod_host_ip", text(pod, "/status/hostIP"));
        set(&mut labels, "pod_uid", text(pod, "/metadata/uid"));
        add_metadata(&mut labels, pod, "pod");
        let Some((kind, owner)) = controller(pod) else { return labels };
        set(&mut labels, "pod_controller_kind", kind);
        set(&mut labels, "pod_controller_name", owner);
        let attach = self.config.attach;
        let above = |kind: Kind, wanted: &str| {
            let (found, name) = controller(self.objects.get(kind, namespace(pod), owner)?)?;
            (found == wanted).then_some(name)
        };
        match kind {
            "ReplicaSet" if attach.deployment => {
                if let Some(deployment) = above(Kind::ReplicaSet, "Deployment") {
                    set(&mut labels, "pod_deployment_name", deployment);
                }
            }
            "Job" => {
                if attach.job {
                    set(&mut labels, "pod_job_name", owner);
                }
                if attach.cronjob
                    && let Some(cronjob) = above(Kind::Job, "CronJob")
                {
                    set(&mut labels, "pod_cronjob_name", cronjob);
                }
            }
            _ => {}
        }
        labels
    }

    fn add_node(&self, labels: &mut Labels, node: &str) {
        if let (true, Some(node)) = (self.config.attach.node, self.objects.get(Kind::Node, "", node)) {
            add_metadata(labels, node, "node");
        }
    }

    fn add_namespace(&self, labels: &mut Labels, namespace: &str) {
        if let (true, Some(object)) = (self.config.attach.namespace, self.objects.get(Kind::Namespace, "", namespace)) {
            let mut own = Labels::new();
            add_metadata(&mut own, object, "namespace");
            // The name stands in `__meta_kubernetes_namespace` already.
            own.remove("__meta_kubernetes_namespace_name");
            labels.extend(own);
        }
    }

    fn pod(&self, pod: &Value) -> (Labels, Vec<Target>) {
        let ip = text(pod, "/status/podIP");
        let node = text(pod, "/spec/nodeName");
        let node_is_wanted = !self.config.attach.node || self.objects.get(Kind::Node, "", node).is_some();
        // A pod has no address while it starts and after it was evicted.
        if ip.is_empty() || !node_is_wanted {
            return (Labels::new(), Vec::new());
        }
        let mut labels = self.pod_labels(pod);
        set(&mut labels, "namespace", namespace(pod));
        self.add_node(&mut labels, node);
        self.add_namespace(&mut labels, namespace(pod));
        let mut targets = Vec::new();
        for (container, init) in containers(pod) {
            let statuses = if init { "/status/initContainerStatuses" } else { "/status/containerStatuses" };
            let status = list(pod, statuses).iter().find(|status| text(status, "/name") == text(container, "/name"));
            let mut own = Labels::new();
            container_labels(&mut own, container, init);
            set(&mut own, "pod_container_id", status.map_or("", |status| text(status, "/containerID")));
            let ports = list(container, "/ports");
            if ports.is_empty() {
                targets.push(Target { address: ip.to_owned(), labels: own });
                continue;
            }
            for port in ports {
                let mut own = own.clone();
                container_port_labels(&mut own, port);
                targets.push(Target { address: join_host_port(ip, number(port, "/containerPort")), labels: own });
            }
        }
        (labels, targets)
    }

    fn service(&self, service: &Value) -> (Labels, Vec<Target>) {
        let mut labels = Labels::new();
        set(&mut labels, "namespace", namespace(service));
        add_metadata(&mut labels, service, "service");
        self.add_namespace(&mut labels, namespace(service));
        let kind = text(service, "/spec/type");
        let host = format!("{}.{}.svc", name(service), namespace(service));
        let targets = list(service, "/spec/ports").iter().map(|port| {
            let mut own = Labels::new();
            set(&mut own, "service_port_name", text(port, "/name"));
            set(&mut own, "service_port_number", number(port, "/port"));
            set(&mut own, "service_port_protocol", protocol(port));
            set(&mut own, "service_type", kind);
            match kind {
                "ExternalName" => set(&mut own, "service_external_name", text(service, "/spec/externalName")),
                _ => set(&mut own, "service_cluster_ip", text(service, "/spec/clusterIP")),
            }
            if kind == "LoadBalancer" {
                set(&mut own, "service_loadbalancer_ip", text(service, "/spec/loadBalancerIP"));
            }
            Target { address: join_host_port(&host, number(port, "/port")), labels: own }
        });
        let targets = targets.collect();
        (labels, targets)
    }

    fn add_service<'o>(&'o self, labels: &mut Labels, namespace: &str, name: &str) -> Option<&'o Value> {
        let service = self.objects.get(Kind::Service, namespace, name)?;
        set(labels, "namespace", namespace);
        add_metadata(labels, service, "service");
        Some(service)
    }

    fn endpoints(&self, endpoints: &Value) -> (Labels, Vec<Target>) {
        let mut labels = Labels::new();
        set(&mut labels, "namespace", namespace(endpoints));
        self.add_service(&mut labels, namespace(endpoints), name(endpoints));
        add_metadata(&mut labels, endpoints, "endpoints");
        self.add_namespace(&mut labels, namespace(endpoints));
        let mut pods = SeenPods::default();
        let mut targets = Vec::new();
        for subset in list(endpoints, "/subsets") {
            for port in list(subset, "/ports") {
                for (pointer, ready) in [("/addresses", "true"), ("/notReadyAddresses", "false")] {
                    for address in list(subset, pointer) {
                        let mut own = Labels::new();
                        set(&mut own, "endpoint_port_name", text(port, "/name"));
                        set(&mut own, "endpoint_port_protocol", protocol(port));
                        set(&mut own, "endpoint_ready", ready);
                        set_if_there(&mut own, "endpoint_address_target_kind", address, "/targetRef/kind");
                        set_if_there(&mut own, "endpoint_address_target_name", address, "/targetRef/name");
                        set_if_there(&mut own, "endpoint_node_name", address, "/nodeName");
                        set_if_there(&mut own, "endpoint_hostname", address, "/hostname");
                        self.add_node(&mut own, node_of(address));
                        let number = number(port, "/port");
                        self.add_pod(&mut own, &mut pods, address, Some(&number));
                        targets.push(Target { address: join_host_port(text(address, "/ip"), number), labels: own });
                    }
                }
            }
        }
        self.add_other_ports(&mut targets, &pods);
        (labels, targets)
    }

    fn endpoint_slice(&self, slice: &Value) -> (Labels, Vec<Target>) {
        let mut labels = Labels::new();
        set(&mut labels, "namespace", namespace(slice));
        set(&mut labels, "endpointslice_address_type", text(slice, "/addressType"));
        add_metadata(&mut labels, slice, "endpointslice");
        let service = text(slice, "/metadata/labels/kubernetes.io~1service-name");
        let service = self.add_service(&mut labels, namespace(slice), service);
        self.add_namespace(&mut labels, namespace(slice));
        if service.is_some_and(|service| is_second_family(service, slice)) {
            return (labels, Vec::new());
        }
        let mut pods = SeenPods::default();
        let mut targets = Vec::new();
        for endpoint in list(slice, "/endpoints") {
            for port in list(slice, "/ports") {
                for address in list(endpoint, "/addresses").iter().filter_map(Value::as_str) {
                    let mut own = Labels::new();
                    for (label, object, pointer) in [
                        ("port_name", port, "/name"),
                        ("port_protocol", port, "/protocol"),
                        ("port", port, "/port"),
                        ("port_app_protocol", port, "/appProtocol"),
                        ("endpoint_conditions_ready", endpoint, "/conditions/ready"),
                        ("endpoint_conditions_serving", endpoint, "/conditions/serving"),
                        ("endpoint_conditions_terminating", endpoint, "/conditions/terminating"),
                        ("endpoint_hostname", endpoint, "/hostname"),
                        ("address_target_kind", endpoint, "/targetRef/kind"),
                        ("address_target_name", endpoint, "/targetRef/name"),
                        ("endpoint_node_name", endpoint, "/nodeName"),
                        ("endpoint_zone", endpoint, "/zone"),
                    ] {
                        set_if_there(&mut own, &format!("endpointslice_{label}"), object, pointer);
                    }
                    for (key, value) in texts(endpoint, "/deprecatedTopology") {
                        let key = sanitize(key);
                        set(&mut own, &format!("endpointslice_endpoint_topology_{key}"), value);
                        set(&mut own, &format!("endpointslice_endpoint_topology_present_{key}"), "true");
                    }
                    self.add_node(&mut own, node_of(endpoint));
                    let number = port.get("port").and_then(Value::as_i64).map(|number| number.to_string());
                    self.add_pod(&mut own, &mut pods, endpoint, number.as_deref());
                    let address = number.map_or(address.to_owned(), |number| join_host_port(address, number));
                    targets.push(Target { address, labels: own });
                }
            }
        }
        self.add_other_ports(&mut targets, &pods);
        (labels, targets)
    }

    /// The labels of the pod behind an endpoint, and of its container that has `port`.
    fn add_pod(&self, labels: &mut Labels, pods: &mut SeenPods, endpoint: &Value, port: Option<&str>) {
        if text(endpoint, "/targetRef/kind") != "Pod" {
            return;
        }
        let (pod_namespace, pod_name) = (text(endpoint, "/targetRef/namespace"), text(endpoint, "/targetRef/name"));
        let Some(pod) = self.objects.get(Kind::Pod, pod_namespace, pod_name) else { return };
        labels.extend(self.pod_labels(pod));
        for (container, init) in containers(pod) {
            let with_port = list(container, "/ports")
                .iter()
                .find(|candidate| Some(number(candidate, "/containerPort").as_str()) == port);
            if let Some(container_port) = with_port {
                container_labels(labels, container, init);
                container_port_labels(labels, container_port);
            }
        }
        let seen = pods.0.entry((pod_namespace.to_owned(), pod_name.to_owned())).or_default();
        seen.extend(port.map(str::to_owned));
    }

    /// Targets for the ports of the pods that no endpoint named.
    fn add_other_ports(&self, targets: &mut Vec<Target>, pods: &SeenPods) {
        for ((namespace, name), seen) in &pods.0 {
            let Some(pod) = self.objects.get(Kind::Pod, namespace, name) else { continue };
            let ip = text(pod, "/status/podIP");
            if ip.is_empty() {
                continue;
            }
            for (container, init) in containers(pod) {
                for port in list(container, "/ports") {
                    let number = number(port, "/containerPort");
                    if seen.contains(&number) {
                        continue;
                    }
                    let mut labels = Labels::new();
                    container_labels(&mut labels, container, init);
                    container_port_labels(&mut labels, port);
                    labels.extend(self.pod_labels(pod));
                    targets.push(Target { address: join_host_port(ip, number), labels });
                }
            }
        }
    }

    fn ingress(&self, ingress: &Value) -> (Labels, Vec<Target>) {
        let mut labels = Labels::new();
        set(&mut labels, "namespace", namespace(ingress));
        set_if_there(&mut labels, "ingress_class_name", ingress, "/spec/ingressClassName");
        add_metadata(&mut labels, ingress, "ingress");
        self.add_namespace(&mut labels, namespace(ingress));
        let secure: Vec<&str> =
            list(ingress, "/spec/tls").iter().flat_map(|tls| list(tls, "/hosts")).filter_map(Value::as_str).collect();
        let mut targets = Vec::new();
        for rule in list(ingress, "/spec/rules") {
            let host = text(rule, "/host");
            let scheme = if secure.iter().any(|pattern| matches_host(pattern, host)) { "https" } else { "http" };
            let paths: Vec<&str> = match rule.pointer("/http/paths").and_then(Value::as_array) {
                None => vec!["/"],
                Some(paths) => paths
                    .iter()
                    .map(|path| Some(text(path, "/path")).filter(|path| !path.is_empty()).unwrap_or("/"))
                    .collect(),
            };
            for path in paths {
                let mut own = Labels::new();
                set(&mut own, "ingress_scheme", scheme);
                set(&mut own, "ingress_host", host);
                set(&mut own, "ingress_path", path);
                targets.push(Target { address: host.to_owned(), labels: own });
            }
        }
        (labels, targets)
    }
}

/// Pods that endpoints stand for, with the ports that they named.
#[derive(Default)]
struct SeenPods(BTreeMap<(String, String), Vec<String>>);

/// The node that an endpoint is on, or that it is.
fn node_of(endpoint: &Value) -> &str {
    match text(endpoint, "/targetRef/kind") {
        "Node" => text(endpoint, "/targetRef/name"),
        _ => text(endpoint, "/nodeName"),
    }
}

/// Whether a slice holds the second addresses of a service that has two of each.
fn is_second_family(service: &Value, slice: &Value) -> bool {
    let dual = matches!(text(service, "/spec/ipFamilyPolicy"), "PreferDualStack" | "RequireDualStack");
    let first = list(service, "/spec/ipFamilies").first().and_then(Value::as_str);
    dual && first.is_some_and(|first| first != text(slice, "/addressType"))
}

/// `*` stands for one label at the front.
fn matches_host(pattern: &str, host: &str) -> bool {
    let after_first = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_owned());
    pattern == host || (pattern.starts_with("*.") && after_first(pattern) == after_first(host))
}
