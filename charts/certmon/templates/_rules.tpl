{{/*
All that the operator may do, the same for a ClusterRole and for a Role. One verb a line, each with its use: a
test compares this list with the verbs seen in the API server's audit log, in both directions.

Not here, on purpose: `get` on monitors (the watch has them), any write to a monitor's spec, metadata or
finalizers, `delete`, `list` and `watch` on ledgers (a ledger goes with its owner, and is read by name), every write to Secrets and ConfigMaps.
*/}}
{{- define "certmon.rules" -}}
- apiGroups: [certmon.dev]
  resources: [certificatemonitors]
  verbs:
    - list # at first, where the server can't stream lists
    - watch # every change, and the first list where it can
- apiGroups: [certmon.dev]
  resources: [certificatemonitors/status]
  verbs:
    - patch # server-side apply, when a fact changed
- apiGroups: [certmon.dev]
  resources: [alertledgers]
  verbs:
    - get # when its monitor appears, and after a conflict
    - create # with the first alert, look or test; before the first intent, whose id needs its uid
    - update # compare-and-swap on the resourceVersion
- apiGroups: [""]
  resources: [secrets]
  verbs:
    - list # certificates by type; by name what an Ingress or `trust` names; sink Secrets, metadata alone
    - watch # the same, and the first list where the server streams lists
    - get # a sink's Secret, when it is checked and when a message is sent
- apiGroups: [""]
  resources: [configmaps]
  verbs:
    - list # what `trust` names, by name
    - watch # the same
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs:
    - list # hosts, addresses, and which Secrets they name
    - watch # the same
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs:
    - create # what changed, never what lasts
{{- end }}
