{{/*
All that the operator may do, the same for a ClusterRole and for a Role. One verb a line, each with its use: a
test compares this list with the verbs seen in the API server's audit log, in both directions.

Not here, on purpose: `get` on monitors (the watch has them), any write to a monitor's spec, metadata or
finalizers, `delete`, `list` and `watch` on ledgers (a ledger goes with its owner, and is read when its monitor
appears), every write to Secrets and ConfigMaps.
*/}}
{{- define "certmon.rules" -}}
- apiGroups: [certmon.dev]
  resources: [certificatemonitors]
  verbs:
    - list # the first sync
    - watch # every change after it
- apiGroups: [certmon.dev]
  resources: [certificatemonitors/status]
  verbs:
    - patch # server-side apply, when a fact changed
- apiGroups: [certmon.dev]
  resources: [alertledgers]
  verbs:
    - get # when its monitor appears, and before each intent
    - create # empty, before the first intent
    - update # compare-and-swap on the resourceVersion
- apiGroups: [""]
  resources: [secrets]
  verbs:
    - list # certificates by type, and names of sink Secrets (metadata alone)
    - watch # the same, after the first sync
    - get # sink Secrets at send, and what an Ingress names
- apiGroups: [""]
  resources: [configmaps]
  verbs:
    - list # trust bundles, by name
    - watch # the same, after the first sync
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs:
    - list # hosts and Secrets to watch
    - watch # the same, after the first sync
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs:
    - create # a transition
{{- end }}
