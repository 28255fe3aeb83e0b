{{/*
The name of everything in the release: the release's own where it already says certmon. 63 bytes is what a label
and a Service's name may have; 8 are kept free for `-metrics`.
*/}}
{{- define "certmon.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 55 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 55 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What selects the Pod. Immutable in a Deployment: never add to it. */}}
{{- define "certmon.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "certmon.labels" -}}
{{ include "certmon.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "certmon.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "certmon.fullname" .) -}}
{{- end }}

{{/* registry/repository:tag@digest; the tag is printed beside a digest for the reader, the digest decides. */}}
{{- define "certmon.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end }}
