// Command storage provides PersistentVolumes for a cluster whose nodes share one machine's file system.
//
// It waits until the scheduler has chosen a node for a claim (WaitForFirstConsumer), makes a directory and offers it as
// a hostPath volume bound to that node and that claim; when the claim is gone it removes both. It runs as a process
// beside the cluster, not in it. It must not provide anything for a class that names another provisioner, and must not
// remove a directory that is not its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	provisionerName  = "fairlead.test/node-directory"
	nodeAnnotation   = "volume.kubernetes.io/selected-node"
	madeByAnnotation = "pv.kubernetes.io/provisioned-by"
	resync           = 10 * time.Second
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	kubeconfig := flag.String("kubeconfig", "", "credentials that may read claims and classes and write volumes")
	directory := flag.String("directory", "", "where the volumes' directories are made")
	flag.Parse()
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	if err := run(ctx, *kubeconfig, *directory); err != nil {
		log.Fatalln("storage:", err)
	}
}

type provisioner struct {
	client    kubernetes.Interface
	classes   storagelisters.StorageClassLister
	directory string
}

func run(ctx context.Context, kubeconfig, directory string) error {
	if !filepath.IsAbs(directory) {
		return fmt.Errorf("-directory %q is not an absolute path", directory)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// The periodic resync is the retry: what failed is handed to the same functions again.
	factory := informers.NewSharedInformerFactory(client, resync)
	p := &provisioner{client: client, classes: factory.Storage().V1().StorageClasses().Lister(), directory: directory}
	classes := factory.Storage().V1().StorageClasses().Informer()
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	volumes := factory.Core().V1().PersistentVolumes().Informer()
	report := func(err error) {
		if err != nil {
			log.Println("storage, will try again:", err)
		}
	}
	if _, err := claims.AddEventHandler(onChange(func(object any) {
		if claim, ok := object.(*core.PersistentVolumeClaim); ok {
			report(p.provide(ctx, claim))
		}
	})); err != nil {
		return err
	}
	if _, err := volumes.AddEventHandler(onChange(func(object any) {
		if volume, ok := object.(*core.PersistentVolume); ok {
			report(p.remove(ctx, volume))
		}
	})); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), classes.HasSynced, claims.HasSynced, volumes.HasSynced) {
		return errors.New("stopped before the first list was complete")
	}
	log.Println("storage: serving claims of", provisionerName)
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

func onChange(handle func(any)) cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, object any) { handle(object) },
	}
}

// provide makes the volume of one pending claim whose node is known; it is a no-op for every other claim.
func (p *provisioner) provide(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	node := claim.Annotations[nodeAnnotation]
	if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil || node == "" || claim.Spec.StorageClassName == nil {
		return nil
	}
	class, err := p.classes.Get(*claim.Spec.StorageClassName)
	if err != nil || class.Provisioner != provisionerName {
		// A class that is not there yet is tried again at the next resync.
		return nil
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.directory, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	// hostPath ignores fsGroup, and the pods are not root: anybody may write, as on a fresh volume of most clouds.
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volumeFor(claim, class, name, path, node), meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		log.Printf("storage: %s/%s gets %s on %s", claim.Namespace, claim.Name, name, node)
	}
	return err
}

func volumeFor(claim *core.PersistentVolumeClaim, class *storage.StorageClass, name, path, node string) *core.PersistentVolume {
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{madeByAnnotation: provisionerName}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node},
				}},
			}}}},
			PersistentVolumeSource: core.PersistentVolumeSource{HostPath: &core.HostPathVolumeSource{Path: path}},
		},
	}
}

// remove deletes one released volume of ours and its directory; it is a no-op for every other volume.
func (p *provisioner) remove(ctx context.Context, volume *core.PersistentVolume) error {
	if volume.Status.Phase != core.VolumeReleased || volume.DeletionTimestamp != nil ||
		volume.Annotations[madeByAnnotation] != provisionerName ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	// The path comes from the name, not from the object: nobody who edits a volume has another directory removed.
	if err := os.RemoveAll(filepath.Join(p.directory, filepath.Base(volume.Name))); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{
		Preconditions: &meta.Preconditions{UID: &volume.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		log.Println("storage: removed", volume.Name)
	}
	return err
}
