{{/* What the agent's pod and that of `helm test` have in common. */}}

{{- define "fairlead-agent.podSecurity" -}}
runAsNonRoot: true
{{- if not .Values.openshift }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "fairlead-agent.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* How the relay is reached: variables, and the files that they name. */}}
{{- define "fairlead-agent.wayVariables" -}}
- {name: FAIRLEAD_RELAY_URL, value: {{ required "relay.url: the relay's agent port, wss://HOST:PORT" .Values.relay.url | quote }}}
{{- if include "fairlead-agent.enrolmentSecret" . }}
- {name: FAIRLEAD_ENROLMENT_TOKEN_FILE, value: /etc/fairlead/enrolment/token}
{{- end }}
{{- with .Values.proxy }}
{{- if .existingSecret }}
- {name: HTTPS_PROXY, valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: url}}}
{{- else if .url }}
- {name: HTTPS_PROXY, value: {{ .url | quote }}}
{{- end }}
{{- if .noProxy }}
- {name: NO_PROXY, value: {{ .noProxy | quote }}}
{{- end }}
{{- if .caConfigMap }}
- {name: FAIRLEAD_CA_BUNDLE_FILE, value: /etc/fairlead/proxy-ca/ca.crt}
{{- end }}
{{- if .tlsInspection }}
{{- $_ := required "proxy.tlsInspection wants proxy.caConfigMap: the CA of what inspects TLS" .caConfigMap }}
- {name: FAIRLEAD_TLS_INSPECTION, value: "true"}
{{- end }}
{{- end }}
{{- end }}

{{- define "fairlead-agent.wayMounts" -}}
{{- if include "fairlead-agent.enrolmentSecret" . }}
- {name: enrolment, mountPath: /etc/fairlead/enrolment, readOnly: true}
{{- end }}
{{- if .Values.proxy.caConfigMap }}
- {name: proxy-ca, mountPath: /etc/fairlead/proxy-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "fairlead-agent.wayVolumes" -}}
{{- with .Values.proxy.caConfigMap }}
- name: proxy-ca
  configMap: {name: {{ . }}}
{{- end }}
{{- with include "fairlead-agent.enrolmentSecret" . }}
- name: enrolment
  # Gone is fine: once enrolled, the agent needs no token.
  secret: {secretName: {{ . }}, optional: true, defaultMode: 0440}
{{- end }}
{{- end }}
