{{- define "observer.selector" -}}
app.kubernetes.io/name: observer
{{- if ne .Release.Name "observer" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- end }}

{{- define "observer.labels" -}}
{{ include "observer.selector" . }}
app.kubernetes.io/part-of: observer
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
