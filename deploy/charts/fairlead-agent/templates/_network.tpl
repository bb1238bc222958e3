{{/* The clause of a policy's rule that limits it to CIDRs; none means any address. */}}
{{- define "fairlead-agent.toCidrs" -}}
{{- if . -}}
to:
  {{- range . }}
  - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
{{- end -}}
{{- end }}

{{/* Ports on the way to the relay, separated by commas; empty: any, since a Secret hides the proxy's. */}}
{{- define "fairlead-agent.wayPorts" -}}
{{- if .Values.networkPolicy.proxyPorts -}}
{{- join "," .Values.networkPolicy.proxyPorts -}}
{{- else if not .Values.proxy.existingSecret -}}
{{- $url := .Values.proxy.url | default .Values.relay.url -}}
{{- $port := regexFind ":[0-9]+/?$" $url | trimAll ":/" -}}
{{- $port | default (ternary "80" "443" (hasPrefix "http://" $url)) -}}
{{- if and .Values.proxy.url .Values.proxy.noProxy -}}
{{- /* The relay may be among what is reached without it. */ -}}
,{{ regexFind ":[0-9]+/?$" .Values.relay.url | trimAll ":/" | default "443" }}
{{- end -}}
{{- end -}}
{{- end }}
