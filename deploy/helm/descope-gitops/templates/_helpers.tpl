{{- define "descope-gitops.labels" -}}
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}

{{- /* Where the daemon finds the key of a project. */}}
{{- define "descope-gitops.keyFile" -}}
{{- $default := .root.Values.secret.name -}}
{{- $secret := .managementKey.secret | default $default -}}
{{- if eq $secret $default }}/run/secrets/descope-gitops/{{ .managementKey.key }}{{ else }}/run/management-keys/{{ $secret }}/{{ .managementKey.key }}{{ end }}
{{- end }}

{{- /* Secrets beside the default one that projects name, once each. */}}
{{- define "descope-gitops.moreSecrets" -}}
{{- $default := .Values.secret.name -}}
{{- $names := list -}}
{{- range .Values.projects }}{{- if and .managementKey.secret (ne .managementKey.secret $default) }}{{- $names = append $names .managementKey.secret }}{{- end }}{{- end -}}
{{- $names | uniq | sortAlpha | toJson -}}
{{- end }}

{{- define "descope-gitops.sourcePath" -}}
{{- if .Values.source.gitSync.enabled }}/git/current{{ else }}{{ printf "/git/%s" .Values.source.volume.path | trimSuffix "/" }}{{ end }}
{{- end }}

{{- /* The daemon's config. */}}
{{- define "descope-gitops.config" -}}
{{- $root := . -}}
{{- $projects := list -}}
{{- range .Values.projects }}
{{- $file := include "descope-gitops.keyFile" (dict "root" $root "managementKey" .managementKey) -}}
{{- $projects = append $projects (merge (dict "managementKey" (dict "file" $file)) (omit . "managementKey")) -}}
{{- end -}}
{{- $state := dict "path" "/var/lib/descope-gitops" -}}
{{- with .Values.state.postgresql }}{{- if .enabled }}
{{- $file := "/run/database/%s" -}}
{{- $state = dict "url" (dict "file" (printf $file .urlKey)) "fingerprintKey" (dict "file" (printf $file .fingerprintKey)) -}}
{{- end }}{{- end }}
{{- $own := dict
      "source" (dict "path" (include "descope-gitops.sourcePath" .))
      "projects" $projects
      "http" (dict "listen" "0.0.0.0:8080" "token" (dict "file" (printf "/run/secrets/descope-gitops/%s" .Values.secret.tokenKey)))
      "state" $state -}}
{{- mergeOverwrite (deepCopy .Values.settings) $own | toYaml -}}
{{- end }}
