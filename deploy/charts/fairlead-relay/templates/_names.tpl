{{- define "fairlead-relay.selector" -}}
app.kubernetes.io/name: fairlead-relay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fairlead-relay.labels" -}}
{{ include "fairlead-relay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "fairlead-relay.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "fairlead-relay.apiUrl" -}}
{{ .Values.api.url | default (printf "%s://%s-api.%s.svc:%v" (ternary "https" "http" .Values.api.tls) .Release.Name .Release.Namespace .Values.api.service.port) }}
{{- end }}

{{- define "fairlead-relay.agentUrl" -}}
{{ .Values.agents.url | default (printf "wss://%s-agents.%s.svc:%v" .Release.Name .Release.Namespace .Values.agents.service.port) }}
{{- end }}

{{- define "fairlead-relay.serverNames" -}}
{{- $names := list "localhost" "127.0.0.1" }}
{{- range list "api" "agents" }}
{{- $names = append $names (printf "%s-%s.%s.svc" $.Release.Name . $.Release.Namespace) }}
{{- end }}
{{- concat $names .Values.serverNames | uniq | join "," -}}
{{- end }}
