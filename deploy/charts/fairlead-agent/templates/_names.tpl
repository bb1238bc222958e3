{{- define "fairlead-agent.selector" -}}
app.kubernetes.io/name: fairlead-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fairlead-agent.labels" -}}
{{ include "fairlead-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Of `helm test`: no selector of the agent's own pods matches them, the NetworkPolicy's alone does. */}}
{{- define "fairlead-agent.testLabels" -}}
app.kubernetes.io/name: fairlead-agent-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Name of what the release puts into other namespaces, where a second agent may put the same. */}}
{{- define "fairlead-agent.abroad" -}}
{{ .Release.Name }}.{{ .Release.Namespace }}
{{- end }}

{{- define "fairlead-agent.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Secret that holds the enrolment token; empty if there is none. */}}
{{- define "fairlead-agent.enrolmentSecret" -}}
{{- if .Values.enrolment.existingSecret -}}
{{ .Values.enrolment.existingSecret }}
{{- else if .Values.enrolment.token -}}
{{ .Release.Name }}-enrolment
{{- end -}}
{{- end }}
