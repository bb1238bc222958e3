{{/* Rules that a Role and the rights of `helm test` share. */}}

{{/* The agent's own objects: its identity, its inventories, the checkpoints of its jobs and its lease. */}}
{{- define "fairlead-agent.ownRules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [fairlead-agent-identity]
  verbs: [get, update]
# A request to create has no name yet, so it cannot be limited to one.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, update, delete]
# Which of its replicas leads.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [fairlead-agent]
  verbs: [get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}

{{- define "fairlead-agent.clusterRules" -}}
{{- range .Values.clusterRights }}
# A server-side apply names what it creates, so that creation too is limited to these names.
- apiGroups: [{{ .apiGroup | quote }}]
  resources: [{{ .resource | quote }}]
  resourceNames: {{ toJson .names }}
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- end }}
