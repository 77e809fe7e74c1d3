package manifest

import (
	"fmt"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Objects are those of one kustomization, in the order in which it renders them.
type Objects struct {
	ConfigMaps      []*core.ConfigMap
	Secrets         []*core.Secret
	Claims          []*core.PersistentVolumeClaim
	Services        []*core.Service
	Deployments     []*apps.Deployment
	Jobs            []*batch.Job
	NetworkPolicies []*networking.NetworkPolicy
}

// Render renders the kustomization in dir.
func Render(dir string) (*Objects, error) {
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	o, seen := &Objects{}, map[string]bool{}
	for _, r := range all.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		name := r.GetKind() + "/" + r.GetName()
		if seen[name] {
			return nil, fmt.Errorf("%s: %s is there twice", dir, name)
		}
		seen[name] = true
		if err := o.add(text); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", dir, name, err)
		}
	}
	return o, nil
}

// add decodes one object, and refuses what its type does not have.
func (o *Objects) add(text []byte) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(text, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 ConfigMap":
		return decode(text, &o.ConfigMaps)
	case "v1 Secret":
		return decode(text, &o.Secrets)
	case "v1 PersistentVolumeClaim":
		return decode(text, &o.Claims)
	case "v1 Service":
		return decode(text, &o.Services)
	case "apps/v1 Deployment":
		return decode(text, &o.Deployments)
	case "batch/v1 Job":
		return decode(text, &o.Jobs)
	case "networking.k8s.io/v1 NetworkPolicy":
		return decode(text, &o.NetworkPolicies)
	}
	return fmt.Errorf("%s %s is not expected here", kind.APIVersion, kind.Kind)
}

func decode[T any](text []byte, into *[]*T) error {
	v := new(T)
	if err := yaml.UnmarshalStrict(text, v); err != nil {
		return err
	}
	*into = append(*into, v)
	return nil
}

// Container returns the container of a pod, of whatever sort, with that name.
func Container(pod *core.PodSpec, name string) (*core.Container, error) {
	for _, list := range [][]core.Container{pod.InitContainers, pod.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i], nil
			}
		}
	}
	return nil, fmt.Errorf("the pod has no container %s", name)
}
