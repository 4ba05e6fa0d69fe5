//! Objects of the API server, read and written by curl: many requests over one connection.

use super::{ADDRESS, ControlPlane, PORT};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// One request to the API server.
struct Request {
    method: &'static str,
    path: String,
    body: Option<(&'static str, Value)>,
}

/// An answer: HTTP status and body.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

/// Where an object lives. Panics on a kind that no test needed so far.
fn path(kind: &str, namespace: &str, name: &str) -> String {
    let named = |group: &str, plural: &str| format!("/{group}/namespaces/{namespace}/{plural}/{name}");
    let global = |group: &str, plural: &str| format!("/{group}/{plural}/{name}");
    match kind {
        "Service" => named("api/v1", "services"),
        "Pod" => named("api/v1", "pods"),
        "EndpointSlice" => named("apis/discovery.k8s.io/v1", "endpointslices"),
        "Node" => global("api/v1", "nodes"),
        "Namespace" => global("api/v1", "namespaces"),
        "ServiceCIDR" => global("apis/networking.k8s.io/v1", "servicecidrs"),
        "ClusterRoleBinding" => global("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
        other => panic!("the API path of kind {other} is not known here"),
    }
}

fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    path(&text(&object["kind"]), namespace, &text(&object["metadata"]["name"]))
}

impl ControlPlane {
    /// Creates objects or brings them to this form (server-side apply); a `status` is written through its subresource.
    #[track_caller]
    pub fn apply(&self, objects: &[Value]) {
        let mut requests = Vec::new();
        for object in objects {
            let mut object = object.clone();
            let status = object.as_object_mut().and_then(|fields| fields.remove("status"));
            let path = path_of(&object);
            requests.push(Request {
                method: "PATCH",
                path: format!("{path}?fieldManager=test&force=true"),
                body: Some(("application/apply-patch+yaml", object)),
            });
            requests.extend(status.map(|status| status_of(&path, status)));
        }
        self.all_well(&requests);
    }

    /// Replaces parts of an object's status.
    #[track_caller]
    pub fn patch_status(&self, kind: &str, name: &str, status: Value) {
        self.all_well(&[status_of(&path(kind, "default", name), status)]);
    }

    /// Changes parts of an object.
    #[track_caller]
    pub fn patch(&self, kind: &str, name: &str, change: Value) {
        let path = path(kind, "default", name);
        self.all_well(&[Request { method: "PATCH", path, body: Some(("application/merge-patch+json", change)) }]);
    }

    /// Deletes objects at once; those that are not there do not matter.
    #[track_caller]
    pub fn delete(&self, objects: &[Value]) {
        self.delete_within(objects, 0);
    }

    /// Asks for the deletion of objects within a time, as `kubectl delete` does for Pods: without a kubelet that would
    /// finish it, a Pod on a node terminates from then on.
    #[track_caller]
    pub fn delete_within(&self, objects: &[Value], seconds: u32) {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": seconds});
        let request = |object| Request {
            method: "DELETE",
            path: path_of(object),
            body: Some(("application/json", options.clone())),
        };
        let requests: Vec<_> = objects.iter().map(request).collect();
        for (request, answer) in requests.iter().zip(self.send(&requests)) {
            assert!(answer.status < 300 || answer.status == 404, "DELETE {}: {}", request.path, answer.body);
        }
    }

    /// All objects of a kind.
    #[track_caller]
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let path = path(kind, "default", "");
        let request = Request { method: "GET", path: path.trim_end_matches('/').to_owned(), body: None };
        let mut answer = self.all_well(&[request]).remove(0);
        let version = answer["apiVersion"].clone();
        let items = answer["items"].as_array_mut().unwrap_or_else(|| panic!("a list without items")).split_off(0);
        let typed = |mut item: Value| {
            item["kind"] = kind.into();
            item["apiVersion"] = version.clone();
            item
        };
        items.into_iter().map(typed).collect()
    }

    /// One object, if it exists.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let request = Request { method: "GET", path: path(kind, "default", name), body: None };
        let answer = self.send(&[request]).remove(0);
        match answer.status {
            200 => Some(answer.body),
            404 => None,
            status => panic!("GET {kind} {name}: {status}: {}", answer.body),
        }
    }

    #[track_caller]
    fn all_well(&self, requests: &[Request]) -> Vec<Value> {
        let well = |(request, answer): (&Request, Answer)| {
            let Request { method, path, body } = request;
            assert!(answer.status < 300, "{method} {path}: {}\nsent: {body:?}", answer.body);
            answer.body
        };
        requests.iter().zip(self.send(requests)).map(well).collect()
    }

    #[track_caller]
    fn send(&self, requests: &[Request]) -> Vec<Answer> {
        if requests.is_empty() {
            return Vec::new();
        }
        let mut config = String::new();
        for (number, request) in requests.iter().enumerate() {
            let next = if number > 0 { "next\n" } else { "" };
            let answer = self.path(&format!("bodies/{number}"));
            let _ = write!(
                config,
                "{next}url = \"https://{ADDRESS}:{PORT}{path}\"\nrequest = \"{method}\"\ncacert = \"{ca}\"\n\
                 header = \"Authorization: Bearer admin-token\"\noutput = \"{answer}\"\nsilent\nshow-error\n\
                 max-time = 60\nwrite-out = \"%{{http_code}}\\n\"\n",
                path = request.path,
                method = request.method,
                ca = self.path("certificates/apiserver.crt").display(),
                answer = answer.display(),
            );
            if let Some((kind, body)) = &request.body {
                let body = body.to_string().replace('\\', "\\\\").replace('"', "\\\"");
                let _ = write!(config, "header = \"Content-Type: {kind}\"\ndata-binary = \"{body}\"\n");
            }
        }
        let file = self.path("requests");
        std::fs::write(&file, config).expect("the requests");
        let output = self.namespace.command("curl").arg("--config").arg(&file).output().expect("curl");
        let statuses = String::from_utf8_lossy(&output.stdout).into_owned();
        let statuses: Vec<u16> = statuses.lines().filter_map(|line| line.parse().ok()).collect();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && statuses.len() == requests.len(),
            "the API server: {complaint}\nlog:\n{}",
            self.api_log()
        );
        let answer = |(number, status)| {
            let text = std::fs::read_to_string(self.path(&format!("bodies/{number}"))).unwrap_or_default();
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Answer { status, body }
        };
        statuses.into_iter().enumerate().map(answer).collect()
    }
}

fn status_of(path: &str, status: Value) -> Request {
    Request {
        method: "PATCH",
        path: format!("{path}/status"),
        body: Some(("application/merge-patch+json", json!({"status": status}))),
    }
}
