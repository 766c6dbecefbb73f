//! Discovery that asks a Kubernetes API server.

use std::path::Path;

use super::http_client::{push_list, push_text};
use super::yaml::{Fields, FromYaml, Node};
use super::{Error, HttpClientConfig, join_directory};

/// The kind of object that becomes a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesRole {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

const ROLES: [(&str, KubernetesRole); 6] = [
    ("node", KubernetesRole::Node),
    ("pod", KubernetesRole::Pod),
    ("service", KubernetesRole::Service),
    ("endpoints", KubernetesRole::Endpoints),
    ("endpointslice", KubernetesRole::EndpointSlice),
    ("ingress", KubernetesRole::Ingress),
];

impl KubernetesRole {
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }

    /// The roles that selectors of a section with this role may be for.
    fn selectors(self) -> &'static [KubernetesRole] {
        match self {
            KubernetesRole::Pod => &[KubernetesRole::Pod, KubernetesRole::Node],
            KubernetesRole::Service => &[KubernetesRole::Service],
            KubernetesRole::EndpointSlice => {
                &[KubernetesRole::Pod, KubernetesRole::Service, KubernetesRole::EndpointSlice]
            }
            KubernetesRole::Endpoints => &[KubernetesRole::Pod, KubernetesRole::Service, KubernetesRole::Endpoints],
            KubernetesRole::Node => &[KubernetesRole::Node],
            KubernetesRole::Ingress => &[KubernetesRole::Ingress],
        }
    }
}

impl FromYaml for KubernetesRole {
    fn type_name() -> String {
        "kubernetes.Role".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<KubernetesRole, Error> {
        let name = String::from_yaml(node)?;
        let role = ROLES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role);
        role.ok_or_else(|| Error::Invalid(format!("unknown Kubernetes SD role {name:?}")))
    }
}

/// Which objects of a role count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSelector {
    pub role: KubernetesRole,
    pub label: String,
    pub field: String,
}

/// What is attached to targets besides their own object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachMetadata {
    pub node: bool,
    pub namespace: bool,
    pub deployment: bool,
    pub job: bool,
    pub cronjob: bool,
}

/// One entry of `kubernetes_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesSdConfig {
    /// Empty: the cluster that this server runs in, or the one of `kubeconfig_file`.
    pub api_server: String,
    pub role: KubernetesRole,
    pub kubeconfig_file: String,
    pub http: HttpClientConfig,
    pub own_namespace: bool,
    /// Empty: all, unless `own_namespace`.
    pub namespaces: Vec<String>,
    pub selectors: Vec<KubernetesSelector>,
    pub attach: AttachMetadata,
}

#[derive(Default)]
struct Namespaces {
    own: bool,
    names: Vec<String>,
}

impl FromYaml for Namespaces {
    fn type_name() -> String {
        "kubernetes.plain".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<Namespaces, Error> {
        let mut fields = Fields::of(node, "kubernetes.plain")?;
        let namespaces =
            Namespaces { own: fields.take_default("own_namespace")?, names: fields.take_default("names")? };
        fields.finish()?;
        Ok(namespaces)
    }
}

impl FromYaml for KubernetesSelector {
    fn type_name() -> String {
        "kubernetes.SelectorConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<KubernetesSelector, Error> {
        let mut fields = Fields::of(node, "kubernetes.SelectorConfig")?;
        let role: Option<KubernetesRole> = fields.take("role")?;
        let (label, field) = (fields.take_default("label")?, fields.take_default("field")?);
        fields.finish()?;
        let role = role.ok_or_else(|| Error::Invalid("unknown Kubernetes SD role \"\"".to_owned()))?;
        Ok(KubernetesSelector { role, label, field })
    }
}

impl FromYaml for AttachMetadata {
    fn type_name() -> String {
        "kubernetes.AttachMetadataConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<AttachMetadata, Error> {
        let mut fields = Fields::of(node, "kubernetes.AttachMetadataConfig")?;
        let attach = AttachMetadata {
            node: fields.take_default("node")?,
            namespace: fields.take_default("namespace")?,
            deployment: fields.take_default("deployment")?,
            job: fields.take_default("job")?,
            cronjob: fields.take_default("cronjob")?,
        };
        fields.finish()?;
        Ok(attach)
    }
}

impl FromYaml for KubernetesSdConfig {
    fn type_name() -> String {
        "*kubernetes.SDConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<KubernetesSdConfig, Error> {
        let mut fields = Fields::of(node, "kubernetes.plain")?;
        let http = HttpClientConfig::take_from(&mut fields);
        let role: Option<KubernetesRole> = fields.take("role")?;
        let namespaces: Namespaces = fields.take_default("namespaces")?;
        let api_server: String = fields.take_default("api_server")?;
        let kubeconfig_file: String = fields.take_default("kubeconfig_file")?;
        let selectors: Vec<KubernetesSelector> =
            fields.take_list("selectors", "[]kubernetes.SelectorConfig")?.unwrap_or_default();
        let attach = fields.take_default("attach_metadata")?;
        fields.finish()?;
        let refuse = |reason: &str| Err(Error::Invalid(reason.to_owned()));
        let Some(role) = role else {
            return refuse("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)");
        };
        let http = http?;
        let own_http = http != HttpClientConfig::default();
        if !api_server.is_empty() && !kubeconfig_file.is_empty() {
            return refuse("cannot use 'kubeconfig_file' and 'api_server' simultaneously");
        }
        if !kubeconfig_file.is_empty() && own_http {
            return refuse("cannot use a custom HTTP client configuration together with 'kubeconfig_file'");
        }
        if api_server.is_empty() && own_http {
            return refuse("to use custom HTTP client configuration please provide the 'api_server' URL explicitly");
        }
        if !api_server.is_empty() && namespaces.own {
            return refuse("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
        }
        if !kubeconfig_file.is_empty() && namespaces.own {
            return refuse("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously");
        }
        for (index, selector) in selectors.iter().enumerate() {
            if selectors[..index].iter().any(|earlier| earlier.role == selector.role) {
                return refuse(&format!("duplicated selector role: {}", selector.role.name()));
            }
            if !role.selectors().contains(&selector.role) {
                let allowed = role.selectors().iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
                return refuse(&format!("{} role supports only {allowed} selectors", role.name()));
            }
        }
        let (own_namespace, namespaces) = (namespaces.own, namespaces.names);
        Ok(KubernetesSdConfig { api_server, role, kubeconfig_file, http, own_namespace, namespaces, selectors, attach })
    }
}

impl KubernetesSdConfig {
    pub fn set_directory(&mut self, directory: &Path) {
        self.http.set_directory(directory);
        self.kubeconfig_file = join_directory(directory, &self.kubeconfig_file);
    }

    pub fn to_yaml(&self) -> Node {
        let mut pairs = Vec::new();
        push_text(&mut pairs, "api_server", &self.api_server);
        pairs.push(("role".to_owned(), Node::string(self.role.name())));
        pairs.push(("kubeconfig_file".to_owned(), Node::string(&self.kubeconfig_file)));
        pairs.extend(self.http.yaml_pairs());
        if self.own_namespace || !self.namespaces.is_empty() {
            let names = Node::sequence(self.namespaces.iter().map(Node::string));
            let namespaces = [("own_namespace", Node::plain(self.own_namespace)), ("names", names)];
            let namespaces = namespaces.map(|(key, value)| (key.to_owned(), value));
            pairs.push(("namespaces".to_owned(), Node::mapping(namespaces)));
        }
        let selectors = self.selectors.iter().map(|selector| {
            let mut pairs = vec![("role".to_owned(), Node::string(selector.role.name()))];
            push_text(&mut pairs, "label", &selector.label);
            push_text(&mut pairs, "field", &selector.field);
            Node::mapping(pairs)
        });
        push_list(&mut pairs, "selectors", selectors);
        if self.attach != AttachMetadata::default() {
            let AttachMetadata { node, namespace, deployment, job, cronjob } = self.attach;
            let flags = [
                ("node", node),
                ("namespace", namespace),
                ("deployment", deployment),
                ("job", job),
                ("cronjob", cronjob),
            ];
            let flags = flags.map(|(key, flag)| (key.to_owned(), Node::plain(flag)));
            pairs.push(("attach_metadata".to_owned(), Node::mapping(flags)));
        }
        Node::mapping(pairs)
    }
}
