{{/* The relay's pod, the same in a StatefulSet with a volume and in a Deployment beside a PostgreSQL. */}}

{{- define "fairlead-relay.hasDatabase" -}}
{{- if or .Values.database.url .Values.database.existingSecret }}yes{{ end -}}
{{- end }}

{{- define "fairlead-relay.hasAuthority" -}}
{{- if or .Values.ca.existingSecret .Values.ca.certManager.enabled }}yes{{ end -}}
{{- end }}

{{- define "fairlead-relay.podMetadata" -}}
labels:
  {{- include "fairlead-relay.labels" . | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "fairlead-relay.podSpec" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
# Agents are told to reconnect, and what is stored is closed, within seconds.
terminationGracePeriodSeconds: 30
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if not .Values.openshift }}
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: relay
    image: {{ include "fairlead-relay.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [serve]
    env: {{- include "fairlead-relay.variables" . | nindent 6 }}
    ports:
      - {name: api, containerPort: 7443}
      - {name: agents, containerPort: 7444}
      - {name: metrics, containerPort: 7445}
    readinessProbe:
      httpGet: {path: /readyz, port: api, scheme: {{ ternary "HTTPS" "HTTP" .Values.api.tls }}}
      periodSeconds: 2
      timeoutSeconds: 5
    livenessProbe:
      httpGet: {path: /healthz, port: api, scheme: {{ ternary "HTTPS" "HTTP" .Values.api.tls }}}
      initialDelaySeconds: 10
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    {{- if and (include "fairlead-relay.hasDatabase" .) (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) }}
    # Every node hears that this one ends before it stops to listen: nobody is sent here to be refused.
    lifecycle: {preStop: {sleep: {seconds: 3}}}
    {{- end }}
    resources: {{- toYaml .Values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: state, mountPath: /var/lib/fairlead-relay}
      # SQLite sorts, and uploaded bundles are received, in files.
      - {name: scratch, mountPath: /tmp}
      {{- if include "fairlead-relay.hasAuthority" . }}
      - {name: authority, mountPath: /etc/fairlead/authority, readOnly: true}
      {{- end }}
      {{- if .Values.backups.existingClaim }}
      - {name: backups, mountPath: /var/lib/fairlead-backups}
      {{- end }}
      {{- if .Values.blobs.existingClaim }}
      - {name: blobs, mountPath: /var/lib/fairlead-blobs}
      {{- end }}
volumes:
  - name: scratch
    emptyDir: {sizeLimit: 256Mi}
  {{- if include "fairlead-relay.hasDatabase" . }}
  # Names and a certificate, made anew by each pod: what lasts is in the database and in the authority's Secret.
  - name: state
    emptyDir: {sizeLimit: 64Mi}
  {{- else if .Values.persistence.existingClaim }}
  - name: state
    persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim }}}
  {{- end }}
  {{- with .Values.backups.existingClaim }}
  - name: backups
    persistentVolumeClaim: {claimName: {{ . }}}
  {{- end }}
  {{- with .Values.blobs.existingClaim }}
  - name: blobs
    persistentVolumeClaim: {claimName: {{ . }}}
  {{- end }}
  {{- if include "fairlead-relay.hasAuthority" . }}
  - name: authority
    projected:
      defaultMode: 0440
      sources: {{- include "fairlead-relay.authoritySources" . | nindent 8 }}
  {{- end }}
{{- if gt (int .Values.replicas) 1 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "fairlead-relay.selector" . | nindent 8 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.affinity }}
affinity: {{- toYaml .Values.affinity | nindent 2 }}
{{- else if gt (int .Values.replicas) 1 }}
affinity:
  podAntiAffinity:
    # A preference: on a cluster of two nodes three relays are better than two.
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "fairlead-relay.selector" . | nindent 14 }}
{{- end }}
{{- end }}

{{- define "fairlead-relay.variables" -}}
# Below the mount, since a volume's root belongs to whoever formatted it.
- {name: FAIRLEAD_RELAY_DATA_DIR, value: /var/lib/fairlead-relay/data}
- {name: FAIRLEAD_RELAY_API_LISTEN, value: ":7443"}
- {name: FAIRLEAD_RELAY_AGENT_LISTEN, value: ":7444"}
- {name: FAIRLEAD_RELAY_METRICS_LISTEN, value: ":7445"}
- {name: FAIRLEAD_RELAY_API_URL, value: {{ include "fairlead-relay.apiUrl" . | quote }}}
- {name: FAIRLEAD_RELAY_AGENT_URL, value: {{ include "fairlead-relay.agentUrl" . | quote }}}
- {name: FAIRLEAD_RELAY_SERVER_NAMES, value: {{ include "fairlead-relay.serverNames" . | quote }}}
{{- if not .Values.api.tls }}
- {name: FAIRLEAD_RELAY_API_TLS, value: "false"}
{{- end }}
{{- if .Values.agents.tlsInspection }}
- {name: FAIRLEAD_RELAY_TLS_INSPECTION, value: "true"}
{{- end }}
{{- with .Values.database }}
{{- if .existingSecret }}
- {name: FAIRLEAD_RELAY_DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: url}}}
{{- else if .url }}
- {name: FAIRLEAD_RELAY_DATABASE_URL, value: {{ .url | quote }}}
{{- end }}
{{- end }}
{{- if include "fairlead-relay.hasAuthority" . }}
- {name: FAIRLEAD_RELAY_AUTHORITY_DIR, value: /etc/fairlead/authority}
{{- end }}
{{- with .Values.blobs }}
{{- if .existingSecret }}
- {name: FAIRLEAD_RELAY_BLOBS_URL, valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: url}}}
{{- else if .existingClaim }}
- {name: FAIRLEAD_RELAY_BLOBS_URL, value: "file:///var/lib/fairlead-blobs/blobs"}
{{- else if .url }}
- {name: FAIRLEAD_RELAY_BLOBS_URL, value: {{ .url | quote }}}
{{- end }}
{{- range $name := ternary (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") list (not (empty .credentialsSecret)) }}
- {name: {{ $name }}, valueFrom: {secretKeyRef: {name: {{ $.Values.blobs.credentialsSecret }}, key: {{ $name }}}}}
{{- end }}
{{- end }}
{{- if and .Values.backups.enabled (not (include "fairlead-relay.hasDatabase" .)) }}
- {name: FAIRLEAD_RELAY_BACKUP_DIR, value: {{ ternary "/var/lib/fairlead-backups" "/var/lib/fairlead-relay" (not (empty .Values.backups.existingClaim)) }}/backups}
- {name: FAIRLEAD_RELAY_BACKUP_HOURS, value: {{ .Values.backups.everyHours | quote }}}
- {name: FAIRLEAD_RELAY_BACKUP_KEEP, value: {{ .Values.backups.keep | quote }}}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: FAIRLEAD_RELAY_{{ upper $name }}, value: {{ toString $value | quote }}}
{{- end }}
- {name: FAIRLEAD_RELAY_LOG_FORMAT, value: {{ .Values.logFormat }}}
{{- end }}

{{- define "fairlead-relay.authoritySources" -}}
{{- if .Values.ca.existingSecret -}}
- secret:
    name: {{ .Values.ca.existingSecret }}
    items:
      {{- range list "root.pem" "issuing.pem" "issuing.key" "signer.key" }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
# While the CA is changed there are two generations of it.
- secret:
    name: {{ .Values.ca.existingSecret }}
    optional: true
    items:
      {{- range list "root.pem" "issuing.pem" "issuing.key" "cross.pem" }}
      - {key: ca-2.{{ . }}, path: ca-2/{{ . }}}
      {{- end }}
{{- else -}}
- secret:
    name: {{ .Release.Name }}-issuing
    items:
      - {key: ca.crt, path: root.pem}
      - {key: tls.crt, path: issuing.pem}
      - {key: tls.key, path: issuing.key}
- secret:
    name: {{ .Release.Name }}-signer
    items: [{key: tls.key, path: signer.key}]
{{- end -}}
{{- end }}
